"""The Kubernetes runtime both daemons and the CLI stand on.

``api`` is the seam (a Protocol over raw dicts), ``client`` its only implementation; ``informer``,
``workqueue`` and ``elector`` are the parts of a controller; ``events`` and ``status`` are what a
controller says. Nothing here knows about backups.
"""

from .api import (
    Discovery,
    ExecResult,
    KubeApi,
    KubeObject,
    Page,
    PatchType,
    Propagation,
    WatchEvent,
    WatchEventType,
)
from .client import KubeClient
from .connection import connect
from .elector import Elector
from .errors import (
    AlreadyExists,
    ApiConflict,
    ApiError,
    ApiNotFound,
    ApiUnavailable,
    ExecFailed,
    ExecInterrupted,
    Forbidden,
    Gone,
    Invalid,
    KindNotServed,
    TooManyRequests,
    Unauthorized,
)
from .events import EventRecorder
from .informer import Change, Informer, key_of, split_key
from .resources import ResourceType, of
from .status import StatusWriter, patch_status
from .steady import SteadyElector
from .workqueue import Reconciler, WorkQueue, run_workers

__all__ = [
    "AlreadyExists",
    "ApiConflict",
    "ApiError",
    "ApiNotFound",
    "ApiUnavailable",
    "Change",
    "Discovery",
    "Elector",
    "EventRecorder",
    "ExecFailed",
    "ExecInterrupted",
    "ExecResult",
    "Forbidden",
    "Gone",
    "Informer",
    "Invalid",
    "KindNotServed",
    "KubeApi",
    "KubeClient",
    "KubeObject",
    "Page",
    "PatchType",
    "Propagation",
    "Reconciler",
    "ResourceType",
    "StatusWriter",
    "SteadyElector",
    "TooManyRequests",
    "Unauthorized",
    "WatchEvent",
    "WatchEventType",
    "WorkQueue",
    "connect",
    "key_of",
    "of",
    "patch_status",
    "run_workers",
    "split_key",
]
