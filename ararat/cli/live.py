"""A run as it is drawn on a terminal: one line per volume, as many as fit."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ararat import human
from ararat.api.nodejob import JobPhase
from ararat.cli.progress import State, Volume, totals

_BAR = 16
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_STYLES = {
    JobPhase.NEW: "dim",
    JobPhase.HELD: "dim",
    JobPhase.RESERVED: "cyan",
    JobPhase.IN_PROGRESS: "cyan",
    JobPhase.COMPLETED: "green",
    JobPhase.FAILED: "bold red",
    JobPhase.CANCELLED: "yellow",
}
#: What deserves a line first when not all fit.
_ORDER = (
    JobPhase.FAILED,
    JobPhase.IN_PROGRESS,
    JobPhase.RESERVED,
    JobPhase.HELD,
    JobPhase.NEW,
    JobPhase.CANCELLED,
    JobPhase.COMPLETED,
)


def view(state: State, *, elapsed: float, height: int, hint: str = "") -> RenderableType:
    """The picture at ``elapsed`` seconds, at most ``height`` lines high."""
    spin = "" if state.terminal else f"{_SPINNER[int(elapsed * 8) % len(_SPINNER)]} "
    head = Text.assemble(
        spin, (state.title, "bold"), f"  {state.phase}  {human.duration(elapsed)}", overflow="fold"
    )
    parts: list[RenderableType] = [head]
    if state.message:
        parts.append(Text(f"  {state.message}"))
    summary = ", ".join(part for part in (totals(state), state.objects) if part)
    if summary:
        parts.append(Text(f"  {summary}"))
    notes = [*(f"waiting for {item}" for item in state.waiting[:3]), *([hint] if hint else [])]
    room = max(1, height - len(parts) - len(notes) - 2)
    shown, rest = choose(state.volumes, room)
    if shown:
        parts.append(_table(shown))
    if rest:
        parts.append(Text(f"  and {human.plural(rest, 'volume')} more", style="dim"))
    parts += [Text(f"  {line}", style="yellow") for line in notes]
    return Group(*parts)


def choose(volumes: Sequence[Volume], room: int) -> tuple[list[Volume], int]:
    """At most ``room`` volumes in their own order, the most telling ones; and how many are left."""
    if len(volumes) <= room:
        return list(volumes), 0
    ranked = sorted(range(len(volumes)), key=lambda i: (_ORDER.index(volumes[i].phase), i))
    return [volumes[i] for i in sorted(ranked[:room])], len(volumes) - room


def _table(volumes: Sequence[Volume]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=2)
    table.add_column(width=_BAR, no_wrap=True)
    for _ in range(3):
        table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for volume in volumes:
        table.add_row(
            f"  {volume.id}",
            _bar(volume),
            human.progress_text(volume.done, volume.total) or "-",
            human.plural(volume.files_done, "file") if volume.files_done else "",
            _pace(volume),
            Text(volume.note or _state(volume), style=_STYLES[volume.phase]),
        )
    return table


def _bar(volume: Volume) -> RenderableType:
    if volume.phase is JobPhase.COMPLETED:
        return ProgressBar(total=1, completed=1, width=_BAR)
    return ProgressBar(
        total=max(volume.total, 1), completed=min(volume.done, volume.total), width=_BAR
    )


def _pace(volume: Volume) -> str:
    if volume.phase is not JobPhase.IN_PROGRESS or not volume.rate:
        return ""
    left = volume.seconds_left
    rate = f"{human.size(volume.rate)}/s"
    return rate if left is None else f"{rate} {human.duration(left)} left"


def _state(volume: Volume) -> str:
    return "waiting" if volume.phase in (JobPhase.NEW, JobPhase.HELD) else str(volume.phase)
