"""Long-running programs of the harness, known by process id *and* start time.

Problem: a cluster is started by one process and may be stopped by another, hours later; a process
id may by then belong to somebody else.
Decision: each service writes its id and start time to a file; it is signalled through a pidfd that
was opened before the start time was compared, so nothing else can ever be hit.
Limits: a service that is entered into a process-id namespace is a grandchild of the harness; its
exit code is not known, its log is.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.cluster.errors import ClusterError

_POLL = 0.05
_TAIL_LINES = 15
#: What Go programs get beside their environment: there is memory to spare, and an API server spends
#: a tenth of its start on collecting garbage.
UNHURRIED_COLLECTOR = {"GOGC": "400"}


@dataclass(frozen=True)
class ProcessId:
    """A process that cannot be mistaken for a later one with the same number."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The process *pid* as it is now, or None if it is gone or only a zombie."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in {"Z", "X"} else cls(pid=pid, started=int(fields[19]))

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return ProcessId.of(self.pid) == self

    def send(self, number: signal.Signals) -> None:
        """Signal this very process; nothing happens if it is gone."""
        with self._opened() as descriptor:
            if descriptor is not None:
                signal.pidfd_send_signal(descriptor, number)

    def end(self, *, patience: float = 10.0) -> None:
        """Terminate, and kill after *patience* seconds; returns when it is gone."""
        self.send(signal.SIGTERM)
        if not self._gone_within(patience):
            self.kill()

    def kill(self) -> None:
        """Kill; returns when it is gone."""
        self.send(signal.SIGKILL)
        if not self._gone_within(30.0):
            raise ClusterError(f"process {self.pid} did not die within 30 s of being killed")

    def _gone_within(self, seconds: float) -> bool:
        with self._opened() as descriptor:
            if descriptor is None:
                return True
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            return bool(poll.poll(seconds * 1000))

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int | None]:
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            yield None
            return
        try:
            yield descriptor if self.alive() else None
        finally:
            os.close(descriptor)


@dataclass(frozen=True)
class Entry:
    """How a command is brought into the namespaces it should run in.

    *forks* counts how often the prefix forks before the command itself runs.
    """

    prefix: tuple[str, ...] = ()
    forks: int = 0


def here() -> Entry:
    """No namespaces but this process's own."""
    return Entry()


class Service:
    """One long-running program: started, stopped and found again by its file in *directory*."""

    def __init__(
        self,
        name: str,
        *,
        directory: Path,
        command: Sequence[str],
        enter: Callable[[], Entry] = here,
        env: Mapping[str, str] | None = None,
        leashed: bool = False,
    ) -> None:
        """A *leashed* service dies with the harness, where the kernel can see to it.

        It also finds an open pipe as its standard input, that closes when the harness is gone.
        *enter* is asked at each start, for namespaces may have been made anew in between.
        """
        self.name = name
        self.log = directory / f"{name}.log"
        self._record = directory / f"{name}.pid"
        self._command = tuple(command)
        self._enter = enter
        self._env = {**UNHURRIED_COLLECTOR, **(os.environ if env is None else env)}
        self._leashed = leashed
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> ProcessId | None:
        """The running process, or None."""
        try:
            recorded = ProcessId(**json.loads(self._record.read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return recorded if recorded.alive() else None

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None

    def start(self) -> None:
        """Start it; does nothing if it runs."""
        if self.alive:
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        # The death signal is tied to the *thread* that forks; only the main one lives long enough.
        leashed = self._leashed and threading.current_thread() is threading.main_thread()
        entry = self._enter()
        leash = ("setpriv", "--pdeathsig", "KILL") if leashed else ()
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [*leash, *entry.prefix, *self._command],
                stdin=subprocess.PIPE if self._leashed else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                start_new_session=True,
            )
        found = _entered(self._child, forks=entry.forks)
        if found is None:
            raise ClusterError(f"{self.name} ended as soon as it was started:\n{self.tail()}")
        self._record.write_text(json.dumps(asdict(found)))

    def stop(self, *, patience: float = 10.0) -> None:
        """Terminate it; does nothing if it does not run."""
        process = self.process
        if process is not None:
            process.end(patience=patience)
        self._forget()

    def kill(self) -> None:
        """Kill it without notice; does nothing if it does not run."""
        process = self.process
        if process is not None:
            process.kill()
        self._forget()

    def pause(self) -> None:
        """Freeze it (SIGSTOP), as a hung program would be."""
        self._must_run().send(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        self._must_run().send(signal.SIGCONT)

    def wait_until(self, ready: Callable[[], bool], *, timeout: float, what: str) -> None:
        """Wait for *ready*; raises ClusterError with the end of the log if that never comes."""
        deadline = time.monotonic() + timeout
        while not ready():
            if not self.alive:
                raise ClusterError(f"{self.name} ended before {what}; {self.log}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"{self.name}: no {what} within {timeout:.0f} s; {self.log}:\n{self.tail()}"
                )
            time.sleep(_POLL)

    def tail(self) -> str:
        """The last lines of its log."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-_TAIL_LINES:])

    def _must_run(self) -> ProcessId:
        process = self.process
        if process is None:
            raise ClusterError(f"{self.name} does not run; start it first")
        return process

    def _forget(self) -> None:
        self._record.unlink(missing_ok=True)
        if self._child is not None:
            self._child.wait()
            if self._child.stdin is not None:
                self._child.stdin.close()
            self._child = None


def _entered(child: subprocess.Popen[bytes], *, forks: int) -> ProcessId | None:
    """The process in which the command itself runs."""
    while child.poll() is None:
        pids = [child.pid]
        for _ in range(forks):
            pids = [grandchild for pid in pids for grandchild in children(pid)]
        found = ProcessId.of(pids[0]) if pids else None
        if found is not None:
            return found
        time.sleep(0.002)
    return None


def children(pid: int) -> list[int]:
    """The direct children of *pid*."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(number) for number in path.read_text().split()]
    return found


def run(
    argv: Sequence[str],
    *,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 600.0,
) -> str:
    """Run a short command and return its output; raises ClusterError if it fails."""
    try:
        done = subprocess.run(
            argv, input=stdin, capture_output=True, env=env, timeout=timeout, check=False
        )
    except FileNotFoundError as error:
        raise ClusterError(
            f"the program {argv[0]} is not installed; run 'python3 -m tests.cluster.toolchain'"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"'{' '.join(argv)}' took more than {timeout:.0f} s") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise ClusterError(f"'{' '.join(argv)}' failed with code {done.returncode}: {said}")
    return done.stdout.decode(errors="replace")


def free_port(address: str = "127.0.0.1") -> int:
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind((address, 0))
        port: int = listener.getsockname()[1]
        return port
