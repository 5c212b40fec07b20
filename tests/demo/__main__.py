"""`make demo`: the main job on a real cluster, from one command. Ends 0 when every proof holds."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tests.cluster.errors import ClusterError
from tests.cluster.toolchain import ToolchainError, cache_root
from tests.demo.clusters import Clusters
from tests.demo.scenario import Scenario
from tests.demo.terminal import Narrator
from tests.e2e.support import diagnostics
from tests.e2e.support.tools import CommandFailed, Tools

_SITES = ("wp", "wp-copy")
_SHOWN_LINES = 60


def main(arguments: list[str]) -> int:
    """Tell the story; returns the exit code."""
    parser = argparse.ArgumentParser(prog="tests.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the clusters running")
    options = parser.parse_args(arguments)
    # Both, and whatever started us: a shell's background job begins with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    tell = Narrator()
    try:
        with Clusters(keep=options.keep) as clusters:
            scenario = Scenario(tell, clusters)
            try:
                scenario.run()
            except (AssertionError, ClusterError, ToolchainError) as error:
                _explain(tell, scenario.current, error)
                return 1
            finally:
                _no_more_interrupts(tell, keep=options.keep)
                if options.keep:
                    clusters.describe(tell)
    except KeyboardInterrupt:
        tell.say("Interrupted; nothing of it is left running.")
        return 130
    tell.summary()
    return 0 if tell.ledger.green else 1


def _explain(tell: Narrator, tools: Tools | None, error: BaseException) -> None:
    """Show what went wrong, and keep everything that may explain it in a file."""
    tell.console.rule("[bold red]The story ends here")
    shown = error.outcome.said if isinstance(error, CommandFailed) else str(error)
    tell.console.print(str(error) if len(shown) < 4000 else shown[-4000:], markup=False)
    if tools is None:
        return
    path = cache_root() / "logs" / "demo-failure.txt"
    path.parent.mkdir(exist_ok=True)
    with Path(path).open("w") as report:
        for title, text in diagnostics.dump(tools, _SITES):
            report.write(f"\n===== {title}\n{text}\n")
            if "log of" in title or "pods and claims" in title:
                tell.console.rule(title, align="left")
                tail = "\n".join(text.splitlines()[-_SHOWN_LINES:])
                tell.console.print(tail, markup=False)
    tell.console.print(f"Pods, events, logs and objects: {path}", markup=False)


def _no_more_interrupts(tell: Narrator, *, keep: bool) -> None:
    """A second Ctrl-C must not leave half of it standing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if not keep:
        tell.say("Taking the clusters down …")


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
