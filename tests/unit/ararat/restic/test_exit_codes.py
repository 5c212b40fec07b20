from __future__ import annotations

import signal

import pytest

from ararat.errors import (
    AraratError,
    Cancelled,
    NotFound,
    OutOfSpace,
    Retryable,
    WrongKey,
)
from ararat.process import LAUNCH_FAILED, Exit
from ararat.restic import errors
from ararat.restic.exit_codes import failure


def of(end: Exit, said: str | None = None, *, oom: bool = False) -> AraratError:
    return failure(end, what="backing up (repo)", said=said, oom=oom)


@pytest.mark.parametrize(
    ("end", "said", "kind", "reason"),
    [
        (Exit(code=1), "Fatal: something", errors.ResticFailed, "ResticFailed"),
        (Exit(code=10), None, errors.NoRepository, "NoRepository"),
        (Exit(code=11), None, errors.RepositoryLocked, "RepositoryLocked"),
        (Exit(code=12), None, errors.WrongPassword, "WrongPassword"),
        (Exit(code=130, stopped=True), None, errors.ResticCancelled, "Cancelled"),
        (Exit(code=1, stopped=True), None, errors.ResticCancelled, "Cancelled"),
        (Exit(code=1), "Fatal: failed to find snapshot", errors.ResticFailed, "ResticFailed"),
        (
            Exit(code=1, tail=("Fatal: failed to find snapshot: x",)),
            None,
            errors.SnapshotNotFound,
            "SnapshotNotFound",
        ),
        (Exit(code=2, tail=("fatal error: runtime: out of memory",)), None,
         errors.OutOfMemory, "OutOfMemory"),
        (Exit(code=2, tail=("panic: nil map",)), None, errors.ResticFailed, "ResticFailed"),
        (Exit(code=1, tail=("write /tmp/x: no space left on device",)), None, OutOfSpace,
         "DiskFull"),
        (Exit(code=99), None, errors.ResticFailed, "ResticFailed"),
        (Exit(code=LAUNCH_FAILED, tail=("launch: this kernel has no Landlock",)), None,
         errors.NotConfinable, "NotConfinable"),
        (Exit(code=LAUNCH_FAILED, tail=("launch: [Errno 2] No such file",)), None,
         errors.ResticFailed, "ResticFailed"),
        (Exit(signal=signal.SIGKILL), None, errors.ChildKilled, "Killed"),
        (Exit(signal=signal.SIGSEGV), None, errors.ChildKilled, "Killed"),
        (Exit(signal=signal.SIGKILL, stopped=True, killed=True), None,
         errors.ResticCancelled, "Cancelled"),
        (Exit(signal=signal.SIGTERM, stopped=True), None, errors.ResticCancelled, "Cancelled"),
    ],
)  # fmt: skip
def test_the_table(end: Exit, said: str | None, kind: type[AraratError], reason: str) -> None:
    found = of(end, said)
    assert type(found) is kind
    assert found.reason == reason
    assert "backing up (repo)" in found.message


def test_the_kernel_killing_for_memory_is_recognised() -> None:
    end = Exit(signal=signal.SIGKILL, peak_rss=256 * 1024 * 1024)
    found = of(end, oom=True)
    assert isinstance(found, errors.OutOfMemory)
    assert "256 MiB" in found.message
    assert type(of(Exit(signal=signal.SIGTERM), oom=True)) is errors.ChildKilled


def test_callers_can_ask_for_what_to_do() -> None:
    assert isinstance(of(Exit(code=10)), NotFound)
    assert isinstance(of(Exit(code=11)), Retryable)
    assert isinstance(of(Exit(code=12)), WrongKey)
    assert isinstance(of(Exit(code=130)), Cancelled)
    assert isinstance(of(Exit(signal=signal.SIGKILL)), Retryable)


def test_the_message_is_one_sentence_and_the_rest_is_kept() -> None:
    found = of(Exit(code=1, tail=("first", "last")), "Fatal: broken\nstack\nstack")
    assert found.message == "backing up (repo): broken"
    assert isinstance(found, errors.ResticFailed)
    assert found.tail == ("first", "last")
    assert found.code == 1
    assert len(of(Exit(code=1), "x" * 5000).message) < 400
