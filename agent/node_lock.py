"""One agent at a time works on a node.

Problem: an agent's pod that was deleted by force is gone from the API at once, and its process is
not: it may stand still, or wait for a disk. Its successor finds its jobs InProgress, takes them for
a dead agent's, and two restics write into one volume.
Decision: whoever starts jobs holds a lock on a file in the cache directory, which is the node's and
not the pod's. The kernel takes it back when the process ends, however it ends, and ends the
process's restics with it. Until then the next agent says what it waits for, and begins nothing.
The same proves to the next one whose locks in a repository are dead: those of agents that held this
very file. Which file it is, inode, device and boot say: as long as one has it open, no other file
gets its number.
Limits: agents of other namespaces are another installation's, with jobs of their own. Where the
file system knows no locks, the agent says so and goes on. Agents with different cache directories
do not meet; a rolling update, which ends the old one first, may move it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
from pathlib import Path

import structlog

from .config import AgentConfig

_log = structlog.get_logger(__name__)

_LOOK_SECONDS = 0.5
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_HELD = (errno.EWOULDBLOCK, errno.EACCES)


def identity(file: os.stat_result) -> str:
    """Of the lock that is held on this file."""
    try:
        boot = _BOOT.read_text().strip()
    except OSError:
        return ""
    return f"{boot}:{file.st_dev:x}:{file.st_ino:x}"


class NodeLock:
    """Held from ``acquire`` to ``release``."""

    def __init__(self, config: AgentConfig) -> None:
        self._config = config
        self._path = config.cache_dir / f"agent-{config.namespace}.lock"
        self._fd: int | None = None
        self.identity = ""
        """Of the lock, while it is held: the same for every agent that holds it before the node
        starts anew. Empty: it is not held, or proves nothing."""
        self.trouble: str | None = None
        """Why nothing can begin on this node yet."""

    async def acquire(self) -> None:
        """Waits for the agent before this one to end."""
        while (trouble := self._try()) is not None:
            if trouble != self.trouble:
                _log.warning("agent.waits", problem=trouble)
                self.trouble = trouble
            await asyncio.sleep(_LOOK_SECONDS)
        self.trouble = None

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd, self.identity = None, ""

    def _try(self) -> str | None:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(self._path, flags, 0o600)
        except OSError as error:
            return f"The lock of this node's agents, {self._path}, is unusable: {error.strerror}."
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                holder = os.read(fd, 300).decode(errors="replace") or "unknown"
                os.close(fd)
                return (
                    f"Another agent still runs on node {self._config.node} (pod {holder}): no job "
                    "starts here before it has ended."
                )
            _log.warning("agent.no_lock", path=str(self._path), cause=error.strerror)
        else:
            self.identity = identity(os.fstat(fd))
        self._fd = fd
        with contextlib.suppress(OSError):  # a full disk; the name is for people only
            os.ftruncate(fd, 0)
            os.write(fd, self._config.pod_name.encode())
        return None
