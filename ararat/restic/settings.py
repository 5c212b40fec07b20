"""Limits and patience of the engine, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Settings:
    #: Seconds between SIGTERM and SIGKILL. restic takes up to a minute to remove its lock from a
    #: slow store.
    grace: float = 75.0
    #: Seconds that leaving a session may take: uploads under way, the session's own locks. A lock
    #: that cannot be removed by then ages (``locks``); a job that never ends blocks its node.
    closing: float = 60.0
    #: Seconds that a store may be away after it has answered once in this session.
    outage_patience: float = 120.0
    #: Seconds that a store may take to answer for the first time; also how long refused
    #: credentials and a missing container are waited for.
    start_patience: float = 30.0
    #: Seconds for one attempt of a call to the store, besides what its body needs; a store whose
    #: calls hang for ever (a dead NFS mount) is noticed by this.
    attempt_seconds: float = 30.0
    #: Bodies up to this size are held in memory and stored by one request; larger ones stream.
    #: restic's packs are 16 MiB by default and a little more.
    buffer_limit: int = 32 * MIB
    #: Bytes of such bodies held at once by all sessions of this process: restic's five connections
    #: with a pack each.
    buffer_budget: int = 85 * MIB
    #: Jobs that share the container's memory and CPU.
    concurrency: int = 2
    #: Bytes of the container's memory that are kept for this process itself.
    reserved_memory: int = 128 * MIB
    #: Bytes per second of all sessions of this process together, both ways; 0 is no limit.
    bandwidth: int = 0
    #: Of restic, added to this process's own.
    niceness: int = 0
    #: Of restic: one of ``launch.IO_PRIORITIES``; None is the usual one.
    io_priority: str | None = None
