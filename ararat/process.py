"""The one module that starts processes.

Problem: a child must always end when its task ends, must never block on a full pipe, may print
lines of several megabytes, must not see our environment, and must not outlive us.
Decision: each child runs behind ``restic/launch.py`` (death with the parent, confinement, working
directory by descriptor) in a session of its own; both pipes are drained at all times; exits are
seen through a pidfd, so that ``wait4`` gives us its resource use and a process id is never used
after it was freed. Whoever leaves the ``start`` block (also by cancellation) ends the child:
SIGTERM, then SIGKILL after ``grace`` seconds.
Limits: children are started from the thread of the event loop, because the kernel's parent-death
signal follows that thread. Peak memory is sampled, once a second after the first, since the
kernel's own figure for a child starts with what its parent had.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from ararat.restic import launch

_LAUNCHER = Path(launch.__file__)
#: Lines of stderr kept for the error, and the length at which each is cut: restic's retry notices
#: hold whole HTTP responses.
TAIL_LINES = 50
TAIL_WIDTH = 1000
#: No line of restic's is longer: its longest is one array of all snapshots, 0.9 kB each.
LINE_LIMIT = 256 * 1024 * 1024
_CHUNK = 256 * 1024
#: The kernel's maximum: of all processes in the container this one dies first.
OOM_SCORE = 1000
#: The first looks come sooner, since most commands take less than a second.
_FIRST_SAMPLE_SECONDS = 0.05
_SAMPLE_SECONDS = 1.0
#: How long a killed process may take to be gone (it may wait for a disk), and how long its pipes
#: may stay open after it.
_REAP_SECONDS = 30.0
_DRAIN_SECONDS = 5.0

LAUNCH_FAILED = launch.FAILED
LineHandler = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """What a confined child may touch. A path or an open directory's descriptor."""

    read: tuple[Path | int, ...] = ()
    execute: tuple[Path | int, ...] = ()
    work: tuple[Path | int, ...] = ()
    restore: tuple[Path | int, ...] = ()

    def rules(self) -> list[tuple[str, str | int]]:
        return [
            (kind, place if isinstance(place, int) else str(place))
            for kind in launch.KINDS
            for place in getattr(self, kind)
        ]

    def descriptors(self) -> tuple[int, ...]:
        places = (*self.read, *self.execute, *self.work, *self.restore)
        return tuple(place for place in places if isinstance(place, int))


@dataclass(frozen=True, kw_only=True)
class Command:
    """A program, its arguments and everything that it gets to see."""

    #: The program's absolute path comes first. No secrets: other processes can read it.
    argv: tuple[str, ...]
    env: Mapping[str, str]
    #: Descriptor of the working directory; None is ``/``.
    directory: int | None = None
    #: Descriptors that the child inherits under the same numbers.
    descriptors: tuple[int, ...] = ()
    #: None: not confined.
    sandbox: Sandbox | None = None
    #: Removed from everything that is kept of stderr.
    secrets: tuple[str, ...] = ()
    #: Added to our own.
    niceness: int = 0
    #: One of ``launch.IO_PRIORITIES``; None is the usual one.
    io_priority: str | None = None


@dataclass(frozen=True, kw_only=True)
class Exit:
    """How a child ended. Exactly one of ``code`` and ``signal`` is set."""

    code: int | None = None
    signal: int | None = None
    #: The last lines of stderr, secrets removed.
    tail: tuple[str, ...] = ()
    #: We asked it to end.
    stopped: bool = False
    #: We had to kill it.
    killed: bool = False
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    #: Bytes; 0 where it was too short-lived to be seen.
    peak_rss: int = 0
    #: Bytes that it asked for with read(2) and the like: files, cached or not, and sockets.
    bytes_read: int = 0

    @property
    def text(self) -> str:
        if self.signal is not None:
            return f"was ended by signal {signal.Signals(self.signal).name}"
        return f"ended with code {self.code}"


@cache
def landlock_abi() -> int:
    """The kernel's Landlock version; 0 where there is none. From 2 on restores can be confined."""
    return launch.landlock_abi()


class Child:
    """A running child. Made by ``start`` only."""

    def __init__(self, command: Command, *, grace: float, on_stderr: LineHandler | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._grace = grace
        self._secrets = tuple(secret for secret in command.secrets if secret)
        self._on_stderr = on_stderr
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._started = time.monotonic()
        self._own_peak = _peak(os.getpid())
        self._peak = 0
        self._bytes_read = 0
        self._stopped = False
        self._killed = False
        self._killer: asyncio.TimerHandle | None = None
        self._exit: asyncio.Future[tuple[int, float, int]] = self._loop.create_future()
        self._process = _spawn(command)
        self.pid = self._process.pid
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.add_reader(self._pidfd, self._reap)
        self._stdout = asyncio.StreamReader(limit=_CHUNK)
        self._stderr = asyncio.StreamReader(limit=_CHUNK)
        self._transports: list[asyncio.ReadTransport] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def _connect(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        for reader, pipe in (
            (self._stdout, self._process.stdout),
            (self._stderr, self._process.stderr),
        ):
            self._transports.append(await self._pipe(reader, pipe))
        self._tasks = [
            self._loop.create_task(self._drain_stderr()),
            self._loop.create_task(self._sample()),
        ]

    async def _pipe(self, reader: asyncio.StreamReader, pipe: IO[bytes]) -> asyncio.ReadTransport:
        transport, _ = await self._loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        return transport

    @property
    def ended(self) -> bool:
        return self._exit.done()

    async def chunks(self) -> AsyncIterator[bytes]:
        """stdout as it comes. Reading slowly makes the child wait."""
        while chunk := await self._stdout.read(_CHUNK):
            yield chunk

    async def lines(self) -> AsyncIterator[str]:
        """stdout by lines of any length; what is not UTF-8 is replaced."""
        async for line in _lines(self._stdout):
            yield line

    async def wait(self) -> Exit:
        """Its end. Whatever of stdout nobody has read is read and dropped."""
        while await self._stdout.read(_CHUNK):
            pass
        status, cpu, kernel_peak = await asyncio.shield(self._exit)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                await asyncio.shield(self._tasks[0])
        code = os.waitstatus_to_exitcode(status)
        # The kernel's figure includes our own memory at the fork; beyond that it is exact.
        peak = kernel_peak if kernel_peak > self._own_peak else self._peak
        return Exit(
            code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            tail=tuple(self._tail),
            stopped=self._stopped,
            killed=self._killed,
            seconds=time.monotonic() - self._started,
            cpu_seconds=cpu,
            peak_rss=peak,
            bytes_read=self._bytes_read,
        )

    def stop(self) -> None:
        """Ask it to end, and kill it when it has not after the grace. Returns at once."""
        if self._stopped or self._exit.done():
            return
        self._stopped = True
        self._signal(signal.SIGTERM)
        self._killer = self._loop.call_later(self._grace, self._kill)

    async def _end(self) -> None:
        """Return when it is gone; a second cancellation meanwhile kills it at once."""
        self.stop()
        # Whoever read stdout has left; a child that cannot write cannot end either.
        self._tasks.append(self._loop.create_task(self._drain_stdout()))
        try:
            while not self._exit.done():
                await asyncio.shield(asyncio.wait([self._exit]))
        except asyncio.CancelledError:
            self._kill()
            await asyncio.wait([self._exit], timeout=_REAP_SECONDS)
            raise
        finally:
            self._close()

    def _kill(self) -> None:
        if not self._exit.done():
            self._killed = True
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        # Not yet reaped, so the id (and the group of the same number) is still this child's.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def _reap(self) -> None:
        if not self._bytes_read:
            self._bytes_read = _bytes_read(self.pid)  # a zombie still tells
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if not pid:
            return
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        if self._killer is not None:
            self._killer.cancel()
        self._exit.set_result((status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024))

    def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for transport in self._transports:
            transport.close()

    async def _drain_stdout(self) -> None:
        while await self._stdout.read(_CHUNK):
            pass

    async def _drain_stderr(self) -> None:
        async for line in _lines(self._stderr):
            text = line
            for secret in self._secrets:
                text = text.replace(secret, "***")
            self._tail.append(text[:TAIL_WIDTH])
            if self._on_stderr is not None:
                self._on_stderr(text)

    async def _sample(self) -> None:
        pause = _FIRST_SAMPLE_SECONDS
        while not self._exit.done():
            await asyncio.sleep(pause)
            self._peak = max(self._peak, _peak(self.pid))
            pause = min(pause * 2, _SAMPLE_SECONDS)


@contextlib.asynccontextmanager
async def start(
    command: Command, *, grace: float, on_stderr: LineHandler | None = None
) -> AsyncIterator[Child]:
    """Run ``command``; leaving the block in any way ends it and waits until it is gone."""
    child = Child(command, grace=grace, on_stderr=on_stderr)
    try:
        await child._connect()
        yield child
    finally:
        await child._end()


async def run(
    command: Command,
    *,
    grace: float,
    on_stdout: LineHandler | None = None,
    on_stderr: LineHandler | None = None,
    on_start: Callable[[Child], None] | None = None,
) -> Exit:
    """Run ``command`` to its end, handing over its lines. Handlers must not block."""
    async with start(command, grace=grace, on_stderr=on_stderr) as child:
        if on_start is not None:
            on_start(child)
        if on_stdout is not None:
            async for line in child.lines():
                on_stdout(line)
        return await child.wait()


def _spawn(command: Command) -> subprocess.Popen[bytes]:
    sandbox = command.sandbox
    spec = {
        "parent": os.getpid(),
        "directory": command.directory,
        "rules": None if sandbox is None else sandbox.rules(),
        "oom_score": OOM_SCORE,
        "niceness": command.niceness,
        "io_priority": command.io_priority,
    }
    inherited = {*command.descriptors, *(sandbox.descriptors() if sandbox else ())}
    if command.directory is not None:
        inherited.add(command.directory)
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(_LAUNCHER), json.dumps(spec), *command.argv],
        env=dict(command.env),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=tuple(inherited),
        start_new_session=True,
    )


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[str]:
    held: list[bytes] = []
    size = 0
    while chunk := await reader.read(_CHUNK):
        first, *rest = chunk.split(b"\n")
        held.append(first)
        size += len(first)
        if size > LINE_LIMIT:
            held, size = [], 0  # not a line that anybody can use
        for part in rest:
            yield b"".join(held).decode(errors="replace")
            held, size = [part], len(part)
    if size:
        yield b"".join(held).decode(errors="replace")


def _bytes_read(pid: int) -> int:
    """``rchar`` so far; 0 where it cannot be known."""
    try:
        fields = Path(f"/proc/{pid}/io").read_text().split()
        return int(fields[fields.index("rchar:") + 1])
    except (OSError, ValueError, IndexError):
        return 0


def _peak(pid: int) -> int:
    """Largest resident size so far, in bytes; 0 where the process is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
