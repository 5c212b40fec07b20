"""Limits and patience of the engine, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024
#: restic's pack of 16 MiB, which ends with the blob that fills it.
_PACK = 17 * MIB


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
    #: credentials and a missing container are waited for. A job is to end within 30 s of that:
    #: with 30 an unreachable store, a missing container and a wrong key took 31 to 36 s on a busy
    #: machine (ten times as much to do as it has processors), with 25 each of them takes 25.2.
    start_patience: float = 25.0
    #: Seconds for one attempt of a call to the store, besides what its body needs; a store whose
    #: calls hang for ever (a dead NFS mount) is noticed by this.
    attempt_seconds: float = 30.0
    #: Bodies up to this size are held in memory and stored by one request; larger ones stream.
    #: restic's packs are 16 MiB by default and a little more.
    buffer_limit: int = 32 * MIB
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

    @property
    def buffer_budget(self) -> int:
        """Bytes of bodies held at once by all sessions of this process.

        A pack on its way for each job, and one that is being read meanwhile. With five packs for
        two jobs a first backup of 16 files of 26 MiB to Azurite peaked at 315 to 324 MiB (server
        and restic; restic with its own backend 168 to 217), with three at 266 to 273 MiB in the
        same time (2 cores; `bench/engine.py`, two rounds each).
        """
        return _PACK * (self.concurrency + 1)
