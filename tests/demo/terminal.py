"""What the demo shows: steps, the commands a user types, their output, and a table of proofs.

Decision: everything that is typed and everything that comes back goes through here, so that the
scenario reads like the story it tells. Colours only where the output is a terminal.
Limits: commands that draw (a live progress display) are not run through here but on the terminal
itself, see `Narrator.live`.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.e2e.support.tools import CommandFailed, Outcome, Tools

_MAX_LINES = 40


@dataclass(frozen=True)
class Proof:
    """One thing that was checked."""

    what: str
    seen: str
    holds: bool


@dataclass
class Ledger:
    """What was proved, and how long each step took."""

    proofs: list[Proof] = field(default_factory=list)
    steps: list[tuple[str, float, str]] = field(default_factory=list)

    @property
    def green(self) -> bool:
        """Whether there are proofs and all of them hold."""
        return bool(self.proofs) and all(proof.holds for proof in self.proofs)


class Narrator:
    """Tells the story on one terminal; also the `Echo` of commands."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.ledger = Ledger()
        self._lines = 0
        self._number = 0

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[list[str]]:
        """One step; what is appended to the list is shown beside its time at the end."""
        self._number += 1
        self.console.print()
        self.console.rule(f"[bold]{self._number}. {escape(title)}", align="left")
        notes: list[str] = []
        started = time.monotonic()
        yield notes
        seconds = time.monotonic() - started
        self.ledger.steps.append((title, seconds, ", ".join(notes)))
        self.console.print(f"[dim]{seconds:.1f} s[/dim]")

    def say(self, text: str) -> None:
        """A sentence between commands."""
        self.console.print(f"[italic]{escape(text)}[/italic]")

    def command(self, line: str) -> None:
        """The line that is typed."""
        self._lines = 0
        self.console.print(f"[bold green]$[/bold green] [bold]{escape(line)}[/bold]")

    def output(self, line: str) -> None:
        """One line that came back; a flood is cut."""
        self._lines += 1
        if self._lines <= _MAX_LINES:
            self.console.print(escape(line), style="dim")
        elif self._lines == _MAX_LINES + 1:
            self.console.print("…", style="dim")

    def type(self, tools: Tools, *argv: str, timeout: float = 300.0, check: bool = True) -> Outcome:
        """Run a command as a user types it and show what it says."""
        return tools.run(*argv, timeout=timeout, check=check, echo=self)

    def live(self, tools: Tools, *argv: str, timeout: float = 600.0) -> None:
        """Run a command that draws its progress; on a terminal it gets the terminal itself."""
        if not self.console.is_terminal:
            self.type(tools, *argv, timeout=timeout)
            return
        self.command(" ".join(argv))
        program = ["/usr/bin/env", *argv]
        started = time.monotonic()
        done = subprocess.run(program, env=tools.environment, timeout=timeout, check=False)
        if done.returncode != 0:
            seconds = time.monotonic() - started
            raise CommandFailed(Outcome(argv, done.returncode, "", "(shown above)", seconds))

    def proved(self, what: str, seen: str, *, holds: bool) -> None:
        """Note and show one proof."""
        self.ledger.proofs.append(Proof(what, seen, holds))
        mark = "[bold green]✔[/]" if holds else "[bold red]✘[/]"
        self.console.print(f"{mark} {escape(what)}: {escape(seen)}")

    def proved_same(self, what: str, seen: str, differences: Sequence[str]) -> None:
        """Note that two things are equal, or how they differ."""
        if differences:
            shown = "; ".join(differences[:3])
            self.proved(what, f"{len(differences)} differences: {shown}", holds=False)
        else:
            self.proved(what, seen, holds=True)

    def summary(self) -> None:
        """The two tables at the end."""
        times = Table("step", "seconds", "what", title="Where the time went", title_justify="left")
        for title, seconds, notes in self.ledger.steps:
            times.add_row(escape(title), f"{seconds:.1f}", escape(notes))
        total = sum(seconds for _, seconds, _ in self.ledger.steps)
        times.add_row("[bold]all", f"[bold]{total:.1f}", "")
        proofs = Table("", "what was proved", "seen", title="Proofs", title_justify="left")
        for proof in self.ledger.proofs:
            mark = "[green]✔" if proof.holds else "[red]✘"
            proofs.add_row(mark, escape(proof.what), escape(proof.seen))
        self.console.print()
        self.console.print(times)
        self.console.print(proofs)


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"
