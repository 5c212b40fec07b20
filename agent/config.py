"""The agent's settings, from its environment.

Decision: read once at start into a frozen dataclass; a bad value is one sentence that names the
variable, and the agent does not start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ararat import hostpaths
from ararat.errors import InvalidSpec
from ararat.naming import is_dns_label

#: Below it a pack takes longer than restic waits for one (five connections of 16 MiB each, by job).
_LEAST_BANDWIDTH_KIB = 256


@dataclass(frozen=True)
class AgentConfig:
    node: str
    """Name of the Node object; jobs carry it."""
    namespace: str
    """Where Ararat's own objects are."""
    pod_name: str
    pod_uid: str
    """This agent's pod: part of the identity that locks carry."""
    kubelet_dir: Path
    """The kubelet's root on this node, mounted at the same path, HostToContainer."""
    cache_dir: Path
    """restic's caches, on the node's disk, so that they survive the pod."""
    scratch_dir: Path
    """Sockets and temporary files."""
    concurrency: int = 2
    """Jobs that run at once."""
    repository_concurrency: int = 2
    """Jobs of this node that run at once on one repository."""
    port: int = 8080
    """Health and metrics."""
    shutdown_seconds: float = 60.0
    """From SIGTERM until running jobs must have been handed back; below the pod's own period."""
    mount_wait_seconds: float = 120.0
    """How long a volume may still be on its way (attach, mount) before a job fails for it."""
    retry_seconds: float = 15.0
    """Before the second attempt of a job; longer before each further one."""
    silence_seconds: float = 600.0
    """Without a word from the API server for so long, the agent is not alive: a new one may reach
    it. Long, because restarting costs the runs under way."""
    reserve_seconds: float = 900.0
    """How long slots are kept for jobs that nobody releases. Longer than any hook may run
    (hooks.maxFreeze is 600), short enough that a controller that died costs one quarter of an
    hour."""
    group_settle_seconds: float = 1.0
    """The controller makes the jobs of a pod one after the other: a group that grew so recently is
    not taken to be whole."""
    progress_seconds: float = 2.0
    """Between two progress writes of a job; chosen by cluster size, since the API server pays."""
    stalled_seconds: float = 40.0
    """A running job that did not move for so long says so."""
    minimum_free_bytes: int = 256 * 1024 * 1024
    """Below this much room in the cache's file system no new job starts."""
    cache_limit_bytes: int = 2 * 1024 * 1024 * 1024
    """restic caches beyond this size are evicted, oldest first."""
    bandwidth_bytes: int = 0
    """Per second, to and from stores, of all jobs of this node together; 0 is no limit."""
    outage_seconds: float = 120.0
    """How long a store may be away under a running job before the job ends."""
    niceness: int = 0
    """Of restic, added to the agent's own."""
    io_priority: str | None = None
    """Of restic: ``low`` or ``idle``; None is the usual one."""
    host_paths: tuple[PurePosixPath, ...] = ()
    """Directories of the node below which hostPath volumes are backed up; mounted at the same
    paths in the agent's container."""
    log_level: str = "INFO"
    log_json: bool = True

    @property
    def session_dir(self) -> Path:
        """Below the scratch directory, for this pod alone: what is found there at start was left
        by a container of it that was killed."""
        # Short, because sockets stand below it; the end of a UID is its random part.
        return self.scratch_dir / f"ararat-{self.pod_uid[-12:]}"


def from_environment(environment: Mapping[str, str]) -> AgentConfig:
    """Raises InvalidSpec with one sentence for the first value that will not do."""
    reader = _Reader(environment)
    namespace = reader.text("ARARAT_NAMESPACE", default="ararat")
    if not is_dns_label(namespace):
        raise InvalidSpec(f"ARARAT_NAMESPACE is no namespace's name: {namespace!r}.")
    return AgentConfig(
        node=reader.text("NODE_NAME"),
        namespace=namespace,
        pod_name=reader.text("POD_NAME"),
        pod_uid=reader.text("POD_UID"),
        kubelet_dir=reader.directory("ARARAT_KUBELET_DIR", default="/var/lib/kubelet"),
        cache_dir=reader.path("ARARAT_CACHE_DIR", default="/var/cache/ararat"),
        scratch_dir=reader.path("ARARAT_SCRATCH_DIR", default="/tmp"),  # noqa: S108 - the pod's own
        concurrency=reader.number("ARARAT_CONCURRENCY", default=2, low=1, high=64),
        repository_concurrency=reader.number(
            "ARARAT_REPOSITORY_CONCURRENCY", default=64, low=1, high=64
        ),
        port=reader.number("ARARAT_PORT", default=8080, low=0, high=65535),
        shutdown_seconds=reader.number("ARARAT_SHUTDOWN_SECONDS", default=60, low=1, high=3600),
        mount_wait_seconds=reader.number(
            "ARARAT_MOUNT_WAIT_SECONDS", default=120, low=1, high=3600
        ),
        silence_seconds=reader.number("ARARAT_SILENCE_SECONDS", default=600, low=1, high=86400),
        retry_seconds=reader.number("ARARAT_RETRY_SECONDS", default=15, low=1, high=3600),
        progress_seconds=reader.number("ARARAT_PROGRESS_SECONDS", default=2, low=1, high=600),
        minimum_free_bytes=reader.number(
            "ARARAT_MINIMUM_FREE_MIB", default=256, low=0, high=1 << 20
        )
        << 20,
        cache_limit_bytes=reader.number("ARARAT_CACHE_LIMIT_MIB", default=2048, low=0, high=1 << 30)
        << 20,
        bandwidth_bytes=reader.limit("ARARAT_BANDWIDTH_KIB", low=_LEAST_BANDWIDTH_KIB) << 10,
        # restic itself gives up after 15 minutes, and a lock is dead after 45.
        outage_seconds=reader.number("ARARAT_OUTAGE_SECONDS", default=120, low=10, high=600),
        niceness=reader.number("ARARAT_NICENESS", default=0, low=0, high=19),
        io_priority={"normal": None, "low": "low", "idle": "idle"}[
            reader.choice("ARARAT_IO_PRIORITY", default="normal", choices=("normal", "low", "idle"))
        ],
        host_paths=reader.host_paths("ARARAT_HOST_PATHS"),
        log_level=reader.choice(
            "ARARAT_LOG_LEVEL", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR")
        ),
        log_json=reader.choice("ARARAT_LOG_FORMAT", default="json", choices=("json", "text"))
        == "json",
    )


class _Reader:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def text(self, name: str, *, default: str | None = None) -> str:
        value = self._environment.get(name, "").strip()
        if value:
            return value
        if default is None:
            raise InvalidSpec(f"{name} is not set; the chart's DaemonSet sets it.")
        return default

    def path(self, name: str, *, default: str) -> Path:
        value = self.text(name, default=default)
        if not value.startswith("/"):
            raise InvalidSpec(f"{name} must be an absolute path, not {value!r}.")
        return Path(value)

    def directory(self, name: str, *, default: str) -> Path:
        path = self.path(name, default=default)
        if not path.is_dir():
            raise InvalidSpec(f"{name} names {path}, which is not a directory in this container.")
        # The kernel's mount table knows no links; below this root none is followed.
        return path.resolve()

    def number(self, name: str, *, default: int, low: int, high: int) -> int:
        value = self.text(name, default=str(default))
        try:
            number = int(value)
        except ValueError:
            raise InvalidSpec(f"{name} must be a whole number, not {value!r}.") from None
        if not low <= number <= high:
            raise InvalidSpec(f"{name} must be between {low} and {high}, not {number}.")
        return number

    def limit(self, name: str, *, low: int) -> int:
        """A number of at least ``low``, or 0 for no limit."""
        number = self.number(name, default=0, low=0, high=1 << 40)
        if 0 < number < low:
            raise InvalidSpec(f"{name} must be 0 (no limit) or at least {low}, not {number}.")
        return number

    def host_paths(self, name: str) -> tuple[PurePosixPath, ...]:
        try:
            return hostpaths.parse(self._environment.get(name, ""))
        except ValueError as error:
            raise InvalidSpec(f"{name} must list directories below /, not {error}.") from None

    def choice(self, name: str, *, default: str, choices: tuple[str, ...]) -> str:
        value = self.text(name, default=default)
        if value not in choices:
            raise InvalidSpec(f"{name} must be one of {', '.join(choices)}, not {value!r}.")
        return value
