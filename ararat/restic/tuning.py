"""How hard restic works on one volume, chosen from what is known of it. Pure.

Problem: one setting for all wastes either memory or time: a restore of many files with five
connections does not fit into 256 MiB, and two readers are too few for a million small files.
Decision: the last run's number and size of files, the container's processors and the memory that
is one restic's share choose among a few profiles; every number below carries the measurement that
chose it (2 cores, restic 0.19.1, unless it says otherwise). The choice and its reason are logged.
Limits: compression is not chosen by volume. What the last run stored tells whether it compressed,
but only for as long as it was allowed to: switched off, it would never be switched on again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .models import LastRun, Snapshot, Tuning
from .settings import MIB

#: Below this a backup is kept small. In a container of 1 core and 256 MiB a first backup of 20,000
#: small files and one of 1 GiB peaked at 160 MiB with restic's defaults and at 111 MiB like this,
#: for 29.8 s instead of 25.5.
_TIGHT_BACKUP = 256 * MIB
_TIGHT = Tuning(read_concurrency=1, pack_size=8, connections=2)
#: From here on a volume counts as one of many files: its restore's memory is that of its files.
_MANY_FILES = 50_000
#: Files whose mean is below this wait for being opened more than for being read.
_SMALL_FILE = 1 * MIB
#: 200,000 small files, first backup: 27.7 s with 1 reader, 22.1 with 2, 20.2 with 8; with 32 22.9 s
#: and 304 MiB instead of 201.
_MOST_READERS = 8
#: Their restore with 1, 2 and 5 connections: 45.7 s and 195 MiB, 23.7 s and 261, 15.7 s and 396. In
#: 256 MiB only the first one ended (5 were killed, 2 thrashed for 93 s).
_MANY_TWO, _MANY_FIVE = 320 * MIB, 512 * MIB
#: Four files of 128 MiB, restored with 1, 2, 3 and 5 connections: 135, 164, 184 and 258 MiB in
#: about the same time (docs/tuning.md). Larger packs cost memory here (340 MiB with 32 or 64 MiB)
#: and won nothing in the backup; smaller ones (167 MiB with 8) twice the requests: 16 stays.
_FEW_TWO, _FEW_FIVE = 200 * MIB, 320 * MIB


@dataclass(frozen=True)
class Machine:
    """What one restic may use."""

    cores: int
    #: Bytes; None where there is no limit.
    memory: int | None = None


def last_run(snapshots: Iterable[Snapshot], *, host: str) -> LastRun | None:
    """What the newest snapshot of a volume says about its size."""
    known = [s for s in snapshots if s.hostname == host and s.summary is not None]
    newest = max(known, key=lambda snapshot: (snapshot.time, snapshot.id), default=None)
    if newest is None or newest.summary is None:
        return None
    return LastRun(files=newest.summary.files_processed, bytes=newest.summary.bytes_processed)


def for_backup(last: LastRun | None, machine: Machine) -> tuple[Tuning, str]:
    """The profile, and why in a few words."""
    if machine.memory is not None and machine.memory < _TIGHT_BACKUP:
        return _TIGHT, f"only {machine.memory // MIB} MiB of memory"
    if last is None or not last.files:
        return Tuning(), "nothing is known of the volume yet"
    if last.bytes // last.files < _SMALL_FILE:
        readers = max(2, min(_MOST_READERS, 2 * machine.cores))
        return Tuning(read_concurrency=readers), f"{last.files} files, most of them small"
    # One file is cut into chunks by one reader; a further one helps while there are cores for it.
    readers = max(1, min(last.files, machine.cores))
    return Tuning(read_concurrency=readers), f"{last.files} files, most of them large"


def for_restore(expected: LastRun | None, machine: Machine) -> tuple[Tuning, str]:
    """The profile, and why in a few words."""
    known = expected is not None and expected.files > 0
    many = not known or (expected is not None and expected.files >= _MANY_FILES)
    two, five = (_MANY_TWO, _MANY_FIVE) if many else (_FEW_TWO, _FEW_FIVE)
    if machine.memory is None or machine.memory >= five:
        return Tuning(), "memory is enough"
    connections = 1 if machine.memory < two else 2
    what = f"{expected.files} files" if expected and known else "a volume of unknown size"
    return Tuning(connections=connections), f"{what} in {machine.memory // MIB} MiB of memory"
