from __future__ import annotations

import pytest

from ararat.api.nodejob import JobPhase
from ararat.cli import live, progress
from ararat.cli.progress import Lines, State, Volume
from tests.unit.ararat.cli.builders import backup, backup_job, restore, restore_job

MIB = 1024 * 1024


def state(**changes) -> State:
    return State(**{"noun": "backup", "name": "b", "phase": "InProgress", **changes})


def volume(name: str, phase: str = "InProgress", **values) -> Volume:
    return Volume(id=name, phase=JobPhase(phase), **values)


def test_of_backup():
    jobs = [
        backup_job("web-0", "uploads", phase="New"),
        backup_job(done=MIB, total=4 * MIB, files=7, rate=MIB, phase="InProgress"),
    ]
    found = progress.of_backup(backup(phase="InProgress", message="two volumes"), jobs)
    assert (found.title, found.phase, found.terminal) == ("backup mybackup", "InProgress", False)
    assert found.message == "two volumes"
    assert [v.id for v in found.volumes] == ["wp/mariadb-0/data", "wp/web-0/uploads"]
    assert (found.done, found.total, found.rate) == (MIB, 4 * MIB, MIB)
    assert found.volumes[0].seconds_left == 3
    assert found.volumes[1].seconds_left is None


def test_of_restore_knows_sizes_beforehand_and_leaves_followers_out():
    jobs = [
        restore_job(done=MIB // 2, phase="InProgress"),
        restore_job("web-1", spec={"role": "Follow", "follows": "x"}),
    ]
    waiting = [{"object": "pod wp/web-0", "reason": "Unschedulable", "message": "no node fits"}]
    found = progress.of_restore(restore(phase="InProgress", waiting=waiting), jobs)
    assert [v.id for v in found.volumes] == ["wp/mariadb-0/data"]
    assert (found.done, found.total) == (MIB // 2, MIB)
    assert found.waiting == ("pod wp/web-0: no node fits",)


@pytest.mark.parametrize(
    ("status", "note"),
    [
        (
            {"phase": "Completed", "incomplete": True, "unreadableCount": 3},
            "3 files could not be read",
        ),
        ({"phase": "Completed", "empty": True}, "the volume is empty"),
        ({"phase": "Failed", "message": "no mount"}, "no mount"),
        ({"phase": "New"}, ""),
    ],
)
def test_notes(status, note):
    assert progress.volume_of_backup(backup_job(**status)).note == note


def test_a_completed_volume_is_complete_whatever_its_last_report_said():
    done = progress.volume_of_backup(backup_job(done=1, total=5, rate=9, phase="Completed"))
    assert (done.done, done.total, done.rate) == (5, 5, 0)


@pytest.mark.parametrize(
    ("done", "total", "rate", "left"), [(0, 10, 5, 2), (0, 10, 0, None), (10, 10, 5, None)]
)
def test_seconds_left(done, total, rate, left):
    assert progress.seconds_left(done, total, rate) == left


def test_totals():
    volumes = (
        volume("a", "Completed", done=MIB, total=MIB),
        volume("b", done=MIB, total=3 * MIB, rate=MIB),
    )
    text = progress.totals(state(volumes=volumes))
    assert text == "1 of 2 volumes, 2.0 MiB of 4.0 MiB (50%), 1.0 MiB/s, 2s left"
    assert progress.totals(state()) == ""


def test_lines_say_each_turn_once_and_progress_calmly():
    lines = Lines(pace=15)
    new = state(phase="New")
    assert lines.update(new, 0) == ["backup b: New"]
    assert lines.update(new, 1) == []
    moving = state(message="reading", volumes=(volume("a", done=1, total=4),))
    assert lines.update(moving, 2) == ["backup b: InProgress: reading"]
    assert lines.update(moving, 16) == []
    assert lines.update(moving, 17) == ["backup b: 0 of 1 volume, 1 B of 4 B (25%)"]
    assert lines.update(moving, 60) == [], "nothing new to say"
    further = state(message="reading", volumes=(volume("a", done=2, total=4),))
    assert lines.update(further, 61) == ["backup b: 0 of 1 volume, 2 B of 4 B (50%)"]
    ended = state(
        phase="Completed",
        terminal=True,
        volumes=(volume("a", "Completed", done=4, total=4, files_done=2, note="odd"),),
    )
    assert lines.update(ended, 62) == [
        "backup b: Completed",
        "volume a: Completed, 4 B in 2 files: odd",
    ]
    assert lines.update(ended, 90) == []


def test_lines_say_what_is_waited_for_once():
    lines = Lines()
    waiting = state(waiting=("pod a: no node fits",))
    assert lines.update(waiting, 0)[1:] == ["waiting for pod a: no node fits"]
    assert lines.update(waiting, 1) == []
    assert lines.update(state(), 2) == []
    assert lines.update(waiting, 3) == ["waiting for pod a: no node fits"]


def test_live_view_shows_what_matters_where_not_all_fits():
    volumes = [volume(f"v{i}", "Completed") for i in range(5)]
    volumes += [volume("run"), volume("bad", "Failed"), volume("new", "New")]
    shown, rest = live.choose(volumes, 3)
    assert [v.id for v in shown] == ["run", "bad", "new"]
    assert rest == 5
    assert live.choose(volumes, 8) == (volumes, 0)


def test_live_view_as_text():
    import io

    from rich.console import Console

    volumes = tuple(volume(f"wp/web-{i}/data", done=MIB, total=2 * MIB, rate=MIB) for i in range(9))
    seen = state(volumes=volumes, waiting=("pod x: slow",), message="nine volumes")
    console = Console(file=io.StringIO(), width=100, height=12, force_terminal=False)
    console.print(live.view(seen, elapsed=65, height=12, hint="a hint"))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert len(text.splitlines()) <= 12
    assert "backup b  InProgress  1m 05s" in text
    assert "wp/web-0/data" in text
    assert "1s left" in text
    assert "more" in text
    assert "waiting for pod x: slow" in text
    assert "a hint" in text
