"""Several make targets at once: ``python -m tools.beside component e2e``.

Problem: the component tests compute and the tests on a cluster wait; one after the other they take
twice as long as they need, and the output of both at once cannot be read.
Decision: each runs as `make TARGET`, and each line of its output is printed whole, with the
target's name before it. All run to their end, whatever becomes of the others: one red run tells
everything that is red. The exit code is 1 if any failed. The last one named is the one that takes
longest: the others make way for it.
Limits: a line without an end appears when the target ends. Ctrl-C reaches all of them from the
terminal; this waits until they have cleaned up.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

_lock = threading.Lock()
#: A third of the processor time that the last one gets where both want it.
_MAKES_WAY = "5"


def main(targets: list[str]) -> int:
    """Run them; the number of targets that failed decides."""
    if not targets:
        print("usage: python -m tools.beside TARGET [TARGET ...]", file=sys.stderr)
        return 2
    # The terminal tells them of a Ctrl-C as it tells us, and only they have something to clean up.
    # A handler, where ignoring it would be inherited by them.
    signal.signal(signal.SIGINT, lambda *_: None)
    width = max(map(len, targets))
    runs = {target: _start(target, last=target == targets[-1]) for target in targets}
    begun = time.monotonic()
    printers = [
        threading.Thread(target=_print, args=(run, f"{target:<{width}} |"))
        for target, run in runs.items()
    ]
    for printer in printers:
        printer.start()
    for printer in printers:
        printer.join()
    failed = [target for target, run in runs.items() if run.wait() != 0]
    minutes, seconds = divmod(int(time.monotonic() - begun), 60)
    said = f"FAILED: {', '.join(failed)}" if failed else f"{', '.join(targets)} passed"
    print(f"== {said} in {minutes}m {seconds:02d}s", flush=True)
    return 1 if failed else 0


def _start(target: str, *, last: bool) -> subprocess.Popen[str]:
    make = ["make", "--no-print-directory", target]
    return subprocess.Popen(
        make if last else ["nice", "-n", _MAKES_WAY, *make],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )


def _print(run: subprocess.Popen[str], prefix: str) -> None:
    assert run.stdout is not None
    for line in run.stdout:
        with _lock:
            print(prefix, line.rstrip("\n"), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
