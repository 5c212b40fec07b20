"""The per-user cache that fetched and built tools are kept in.

Problem: building Kubernetes takes minutes, so it is done once per machine; it may be interrupted,
and two test runs may want it at the same time.
Decision: every item has a directory named by version and recipe. It is filled under a lock in a
`.partial` sibling and renamed as the last act, so a directory with the final name is complete and
an interrupted step starts over.
Limits: nothing is ever evicted; old versions are removed by deleting the cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.cluster.toolchain.errors import ToolchainError

_STAMP = ".complete"
_SHOWN_LINES = 15


def cache_root() -> Path:
    """`$ARARAT_CACHE`, else `~/.cache/ararat`; made if it is not there."""
    configured = os.environ.get("ARARAT_CACHE")
    root = Path(configured) if configured else Path.home() / ".cache" / "ararat"
    root.mkdir(parents=True, exist_ok=True)
    return root.resolve()


def say(message: str) -> None:
    """One line of progress on standard error, where it never mixes with a command's result."""
    print(f"[toolchain] {message}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold the machine-wide lock *name*; the kernel releases it if this process dies."""
    directory = cache_root() / "locks"
    directory.mkdir(exist_ok=True)
    with (directory / name).open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{name}: waiting for another run that is at it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def obtain(name: str, *, what: str, build: Callable[[Path], None]) -> Path:
    """Return the directory *name* of the cache, filled by *build* unless it is complete."""
    final = cache_root() / "tools" / name
    if (final / _STAMP).is_file():
        return final
    with lock(name):
        if (final / _STAMP).is_file():
            return final
        partial = final.with_name(final.name + ".partial")
        for leftover in (partial, final):
            shutil.rmtree(leftover, ignore_errors=True)
        partial.mkdir(parents=True)
        say(f"{name}: {what}")
        started = time.monotonic()
        build(partial)
        (partial / _STAMP).write_text("")
        partial.rename(final)
        say(f"{name}: ready after {time.monotonic() - started:.0f} s")
    return final


def run(
    argv: Sequence[str],
    *,
    log: str,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run *argv* with its output appended to the log file of the item *log*.

    Raises ToolchainError with the last lines of output when it fails.
    """
    directory = cache_root() / "logs"
    directory.mkdir(exist_ok=True)
    path = directory / f"{log}.log"
    with path.open("a") as handle:
        handle.write(f"\n$ {' '.join(argv)}\n")
        handle.flush()
        try:
            code = subprocess.run(
                argv,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
        except FileNotFoundError as error:
            raise ToolchainError(
                f"{log}: the program {argv[0]} is not installed; run 'make toolchain' first"
            ) from error
    if code != 0:
        tail = "\n".join(path.read_text(errors="replace").splitlines()[-_SHOWN_LINES:])
        raise ToolchainError(f"{log}: '{argv[0]}' failed with code {code}; see {path}:\n{tail}")
