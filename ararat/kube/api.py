"""The seam to the Kubernetes API: raw dicts in and out.

Problem: backup and restore handle kinds nobody has a class for, caches hold tens of thousands of
objects, and tests must be able to put a double in the place of a cluster.
Decision: one Protocol over ``ResourceType`` and plain dicts. Every call ends within the client's
deadline (30 s unless it says otherwise) or raises one of ``ararat.kube.errors``; nothing else
escapes but CancelledError. Callers that want less use ``asyncio.timeout`` around the call.
Who may retry: ``TooManyRequests`` was not executed; after ``ApiUnavailable`` a write may have been,
so read before writing again, or make the write idempotent (derived names, apply, preconditions).
Limits: objects are not validated and not copied: whoever gets one from a cache must not change it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol

from .resources import ResourceType

KubeObject = dict[str, Any]

#: Field manager of everything Ararat writes, unless a call names another.
FIELD_MANAGER = "ararat"

Propagation = Literal["Background", "Foreground", "Orphan"]


class PatchType(StrEnum):
    """The value is the content type."""

    MERGE = "application/merge-patch+json"
    JSON = "application/json-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    #: Server-side apply; creates what is missing. JSON is YAML.
    APPLY = "application/apply-patch+yaml"


class WatchEventType(StrEnum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclass(frozen=True)
class WatchEvent:
    """One line of a watch. A bookmark's object holds a resource version and nothing else."""

    type: WatchEventType
    object: KubeObject


@dataclass(frozen=True)
class Page:
    """One page of a list."""

    items: list[KubeObject]
    #: Of the whole list: the same on every page.
    resource_version: str
    #: Items after this page, where the server says so.
    remaining: int | None = None


@dataclass(frozen=True)
class ExecResult:
    """How a command in a container ended. Output beyond the limit is cut at its *beginning*."""

    stdout: bytes
    stderr: bytes
    exit_code: int
    truncated: bool = False


@dataclass(frozen=True)
class Discovery:
    """What the API server serves: each resource once, in the version its group prefers."""

    resources: list[ResourceType]
    #: ``group/version`` of aggregated APIs that did not answer: their kinds may be missing above.
    failed_groups: list[str] = field(default_factory=list)


class KubeApi(Protocol):
    """The Kubernetes API. See the module for deadlines and errors."""

    async def get(
        self, rt: ResourceType, name: str, *, namespace: str | None = None
    ) -> KubeObject: ...

    def list(
        self,
        rt: ResourceType,
        *,
        namespace: str | None = None,
        labels: str | None = None,
        fields: str | None = None,
        page: int = 500,
    ) -> AsyncIterator[KubeObject]:
        """Every object, page by page; complete, or an error. ``namespace=None`` means all.

        Where the listing outlives its snapshot, it goes on in a newer one from the next key, as the
        server offers: no object that was there all the time is missed. Objects carry apiVersion
        and kind. Choose a small page for kinds with large objects (Secrets): a page is held whole.
        """
        ...

    def pages(
        self,
        rt: ResourceType,
        *,
        namespace: str | None = None,
        labels: str | None = None,
        fields: str | None = None,
        page: int = 500,
        resource_version: str | None = None,
    ) -> AsyncIterator[Page]:
        """One consistent listing. Raises Gone where its snapshot expires.

        ``resource_version="0"`` with ``page=0`` is answered from the server's cache (see Informer).
        """
        ...

    def watch(
        self,
        rt: ResourceType,
        *,
        resource_version: str,
        namespace: str | None = None,
        labels: str | None = None,
        fields: str | None = None,
        timeout_seconds: float = 300,
        inactivity_seconds: float = 70,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Changes after ``resource_version``, bookmarks included, until the server ends it.

        The first event is a bookmark of ``resource_version`` itself: the server has accepted.
        Raises Gone where the version is too old, ApiUnavailable where the connection breaks or
        nothing comes for ``inactivity_seconds``. Close it (``contextlib.aclosing``).
        """
        ...

    async def create(
        self,
        rt: ResourceType,
        body: Mapping[str, Any],
        *,
        namespace: str | None = None,
        dry_run: bool = False,
    ) -> KubeObject:
        """The namespace may also stand in the body. Raises AlreadyExists."""
        ...

    async def patch(
        self,
        rt: ResourceType,
        name: str,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        namespace: str | None = None,
        subresource: str | None = None,
        kind: PatchType = PatchType.MERGE,
        dry_run: bool = False,
        force: bool = True,
        field_manager: str = FIELD_MANAGER,
    ) -> KubeObject:
        """Merge patches with a ``metadata.resourceVersion`` raise ApiConflict if it moved on.

        A list is a JSON patch whatever ``kind`` says. ``force`` is for APPLY: take over fields of
        other managers.
        """
        ...

    async def replace(
        self,
        rt: ResourceType,
        name: str,
        body: Mapping[str, Any],
        *,
        namespace: str | None = None,
        subresource: str | None = None,
        dry_run: bool = False,
    ) -> KubeObject:
        """Raises ApiConflict where the body's ``metadata.resourceVersion`` is not the latest."""
        ...

    async def delete(
        self,
        rt: ResourceType,
        name: str,
        *,
        namespace: str | None = None,
        uid: str | None = None,
        propagation: Propagation = "Background",
        grace_seconds: int | None = None,
    ) -> None:
        """Ask for deletion. Missing is not an error; with ``uid`` neither is a namesake.

        The object may live on while finalizers hold it.
        """
        ...

    async def discover(self) -> Discovery:
        """All resources; a broken aggregated API is named, not fatal."""
        ...

    async def server_version(self) -> str:
        """``v1.20.2``."""
        ...

    async def exec(
        self,
        namespace: str,
        pod: str,
        container: str,
        command: Sequence[str],
        *,
        timeout: float | None = 30,
        output_limit: int = 65536,
    ) -> ExecResult:
        """Run a command and wait for it. ``timeout=None`` waits for ever.

        Raises ExecInterrupted on timeout or a lost connection (the command may still be running),
        ExecFailed where it could not be started.
        """
        ...

    def exec_stream(
        self, namespace: str, pod: str, container: str, command: Sequence[str]
    ) -> AsyncGenerator[bytes, None]:
        """Stdout as it comes, with back-pressure. Ends after exit code 0.

        Raises ExecFailed (with the tail of stderr) for another exit code, ExecInterrupted where
        the connection ends first.
        """
        ...

    async def pod_log(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        tail_lines: int | None = None,
        limit_bytes: int = 1 << 20,
        previous: bool = False,
    ) -> str: ...
