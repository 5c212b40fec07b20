"""Numbers as people read them: in status texts, on the terminal, in gates' logs. Pure."""

from __future__ import annotations

from collections.abc import Sequence

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")


def size(count: int) -> str:
    """``212.0 MiB``: binary units, one decimal."""
    if abs(count) < 1024:
        return f"{count} B"
    value = float(count)
    for unit in _UNITS:
        value /= 1024
        # As it will be printed: 1,048,575 bytes are 1.0 MiB, not 1024.0 KiB.
        if round(abs(value), 1) < 1024 or unit == _UNITS[-1]:
            return f"{value:.1f} {unit}"
    raise AssertionError("unreachable")


def duration(seconds: float) -> str:
    """``45s``, ``3m 05s``, ``2h 10m``, ``4d 3h``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h {minutes:02d}m"
    days, hours = divmod(hours, 24)
    return f"{days}d {hours}h"


def progress_text(done: int, total: int) -> str:
    """``120.3 of 212.0 MiB (57%)``; empty before anything is known."""
    if total <= 0:
        return "" if done <= 0 else size(done)
    if done >= total:
        return size(total)
    return f"{size(done)} of {size(total)} ({100 * done // total}%)"


def plural(count: int, noun: str) -> str:
    """``1 volume``, ``2 volumes``."""
    return f"{count} {noun}" if count == 1 else f"{count:,} {noun}s"


def unreadable(count: int, paths: Sequence[str]) -> str:
    """``3 files could not be read (data/ibdata1, ...)``."""
    shown = ", ".join([*paths[:3], *(["..."] if count > len(paths[:3]) else [])])
    return f"{plural(count, 'file')} could not be read" + (f" ({shown})" if paths else "")


def sockets_left_out(count: int, names: Sequence[str]) -> str:
    """``3 sockets were left out (run/a.sock, ...)``; empty where there is none."""
    if not count:
        return ""
    verb = "was" if count == 1 else "were"
    shown = ", ".join([*names, *(["..."] if count > len(names) else [])])
    return f"{plural(count, 'socket')} {verb} left out ({shown})"
