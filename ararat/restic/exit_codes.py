"""How restic ended → what the caller can do: the one table.

Codes are restic's (doc/075_scripting.rst, "Exit codes"). 0 and, for a backup,
3 are results and never come here. Text is matched only to tell a full disk or exhausted memory from
other failures; where restic words it differently, the error is only less precise.
"""

from __future__ import annotations

import signal

from ararat.errors import AraratError, OutOfSpace
from ararat.process import LAUNCH_FAILED, Exit

from .errors import (
    ChildKilled,
    NoRepository,
    NotConfinable,
    OutOfMemory,
    RepositoryLocked,
    ResticCancelled,
    ResticFailed,
    SnapshotNotFound,
    WrongPassword,
)

_BY_CODE: dict[int, tuple[type[ResticFailed], str]] = {
    10: (NoRepository, "there is no repository"),
    11: (RepositoryLocked, "the repository is locked by other work: try again later"),
    12: (WrongPassword, "no key of the repository opens with this password"),
    130: (ResticCancelled, "it was asked to end"),
}
_GO_CRASH = 2
_MEMORY = ("out of memory", "cannot allocate memory")
_DISK = ("no space left on device", "disk quota exceeded")
_NO_SNAPSHOT = ("failed to find snapshot", "no matching id found", "no snapshot found")
_WIDTH = 300


def failure(end: Exit, *, what: str, said: str | None, oom: bool) -> AraratError:
    """``what`` is the command and its repository; ``said`` is restic's ``exit_error``.

    ``oom``: the kernel has killed for memory in our group meanwhile.
    """

    def make(kind: type[ResticFailed], text: str) -> ResticFailed:
        return kind(f"{what}: {text}", tail=end.tail, code=end.code)

    if end.signal is not None:
        return _by_signal(end, what=what, oom=oom)
    assert end.code is not None, "a child has a code or a signal"
    tail = "\n".join(end.tail).lower()
    words = _first_line(said) or _first_line(end.tail[-1] if end.tail else None) or end.text
    if end.code == LAUNCH_FAILED:
        if "landlock" in tail:
            return NotConfinable(f"{what}: {words}")
        return make(ResticFailed, f"restic could not be started ({words})")
    if end.code == _GO_CRASH and any(text in tail for text in _MEMORY):
        return make(OutOfMemory, "restic ran out of memory: raise the agent's limit")
    if end.code in _BY_CODE:
        kind, text = _BY_CODE[end.code]
        return make(kind, text)
    if end.stopped:
        return make(ResticCancelled, "it was asked to end")  # 0.18 ends with 1 then
    if any(text in tail for text in _DISK):
        return OutOfSpace(f"{what}: {words}", reason="DiskFull")
    if any(text in tail for text in _NO_SNAPSHOT):
        return make(SnapshotNotFound, words)
    return make(ResticFailed, words)


def _by_signal(end: Exit, *, what: str, oom: bool) -> ResticFailed:
    assert end.signal is not None
    name = signal.Signals(end.signal).name
    kind: type[ResticFailed] = ChildKilled
    text = f"restic was ended by {name}"
    if end.stopped:
        kind = ResticCancelled
        text = "it was asked to end" + (" and had to be killed" if end.killed else "")
    elif end.signal == signal.SIGKILL and oom:
        kind = OutOfMemory
        peak = f" (it had {end.peak_rss // (1024 * 1024)} MiB)" if end.peak_rss else ""
        text = f"restic ran out of memory{peak}: raise the agent's limit"
    return kind(f"{what}: {text}", tail=end.tail)


def _first_line(text: str | None) -> str:
    line = (text or "").strip().partition("\n")[0]
    return line.removeprefix("Fatal: ")[:_WIDTH]
