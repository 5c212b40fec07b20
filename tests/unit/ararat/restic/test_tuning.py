from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ararat.restic.models import LastRun, Snapshot, SnapshotSummary, Tuning
from ararat.restic.settings import MIB
from ararat.restic.tuning import Machine, for_backup, for_restore, last_run

NOW = datetime(2026, 11, 23, tzinfo=UTC)
SMALL = LastRun(files=1_000_000, bytes=4_000_000_000)
LARGE = LastRun(files=3, bytes=3_000_000_000)


@pytest.mark.parametrize(
    ("last", "cores", "readers"),
    [
        (None, 2, None),
        (LastRun(files=0, bytes=0), 2, None),
        (SMALL, 1, 2),
        (SMALL, 2, 4),
        (SMALL, 16, 8),
        (LARGE, 1, 1),
        (LARGE, 2, 2),
        (LARGE, 16, 3),
    ],
)
def test_readers_follow_the_files_and_the_cores(
    last: LastRun | None, cores: int, readers: int | None
) -> None:
    chosen, why = for_backup(last, Machine(cores))
    assert chosen.read_concurrency == readers
    assert why


def test_a_small_container_is_kept_small_whatever_the_volume() -> None:
    for last in (None, SMALL, LARGE):
        chosen, why = for_backup(last, Machine(8, 180 * MIB))
        assert (chosen.read_concurrency, chosen.pack_size, chosen.connections) == (1, 8, 2)
        assert "180 MiB" in why
    assert for_backup(LARGE, Machine(2, 256 * MIB))[0].pack_size is None


@pytest.mark.parametrize(
    ("expected", "memory", "connections"),
    [
        (SMALL, None, None),
        (SMALL, 512, None),
        (SMALL, 400, 2),
        (SMALL, 256, 1),
        (None, 256, 1),
        (LastRun(files=0, bytes=0), 256, 1),
        (None, 400, 2),
        (LARGE, 400, None),
        (LARGE, 256, 2),
        (LARGE, 128, 1),
    ],
)
def test_a_restore_takes_the_connections_that_fit(
    expected: LastRun | None, memory: int | None, connections: int | None
) -> None:
    machine = Machine(2, None if memory is None else memory * MIB)
    chosen, why = for_restore(expected, machine)
    assert chosen == Tuning(connections=connections)
    assert why


def test_the_newest_run_with_a_summary_tells_the_size() -> None:
    def snapshot(age: int, host: str = "h", *, files: int | None = None) -> Snapshot:
        summary = None if files is None else SnapshotSummary(files_processed=files)
        made = NOW - timedelta(days=age)
        return Snapshot(id=f"{age:064}", time=made, hostname=host, summary=summary)

    found = [snapshot(3, files=3), snapshot(2, files=2), snapshot(1), snapshot(0, "o", files=9)]
    assert last_run(found, host="h") == LastRun(files=2, bytes=0)
    assert last_run(found, host="nobody") is None
    assert last_run([], host="h") is None
