"""The commands a user types: kubectl, helm and ararat, against one cluster.

Problem: tests and demo must go the user's way, not through our own client, and must show what was
typed and what came back when something fails.
Decision: one object per cluster; it puts the toolchain and the virtual environment on PATH, sets
KUBECONFIG, runs the real programs and returns what they said. `Echo` lets the demo show it all.
Objects that only the tests look at, over and over, are read through a `Reader`.
Limits: kubectl starts in about 100 ms; what runs it is not for tight loops.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from tests.cluster.process import UNHURRIED_COLLECTOR
from tests.cluster.toolchain import kubectl as programs
from tests.e2e.support.reader import Reader, ReadFailed

Object = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def said(self) -> str:
        """Both streams, for messages."""
        return "\n".join(part.strip() for part in (self.stdout, self.stderr) if part.strip())


class CommandFailed(AssertionError):
    """A command ended with another code than 0."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(f"$ {shlex.join(outcome.argv)}\n[exit code {outcome.code}] {outcome.said}")
        self.outcome = outcome


class Echo(Protocol):
    """Shows commands and their output to a person."""

    def command(self, line: str) -> None:
        """The line that is typed."""

    def output(self, line: str) -> None:
        """One line that came back."""


class Tools:
    """The three programs, pointed at one cluster."""

    def __init__(self, kubeconfig: Path, *, namespace: str = "ararat") -> None:
        """*namespace* is the one Ararat is installed in."""
        self.kubeconfig = kubeconfig
        self.namespace = namespace
        found = programs.ensure()
        directories = [str(found.kubectl.parent), str(found.helm.parent)]
        directories += [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
        self.environment = {
            **UNHURRIED_COLLECTOR,
            **os.environ,
            "PATH": ":".join(directories),
            "KUBECONFIG": str(kubeconfig),
            "ARARAT_NAMESPACE": namespace,
            # A server of 1.20 speaks SPDY for exec and port-forward.
            "KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false",
            "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false",
            # Nothing of the user's own helm is read or written.
            **{f"HELM_{k}_HOME": str(kubeconfig.parent / "helm") for k in ("CACHE", "CONFIG")},
            "HELM_DATA_HOME": str(kubeconfig.parent / "helm"),
        }
        self._reader = Reader(self.environment)

    def run(
        self,
        *argv: str,
        stdin: str | None = None,
        timeout: float = 120.0,
        check: bool = True,
        echo: Echo | None = None,
        shown: str | None = None,
    ) -> Outcome:
        """Run a command; raises CommandFailed unless *check* is off.

        *shown* replaces the command line where a user would type it otherwise.
        """
        if echo is not None:
            echo.command(shown or shlex.join(argv))
        started = time.monotonic()
        # Looked up in the PATH above, not in this process's own.
        program = ["/usr/bin/env", *argv]
        with subprocess.Popen(
            program,
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
            text=True,
            errors="surrogateescape",
        ) as child:
            deadline = threading.Timer(timeout, child.kill)
            deadline.start()
            try:
                stdout, stderr = _pump(child, stdin=stdin, echo=echo)
                child.wait()
            except BaseException:
                child.kill()
                raise
            finally:
                deadline.cancel()
        seconds = time.monotonic() - started
        if seconds >= timeout:
            stderr += f"\n[killed after {timeout:.0f} s]"
        outcome = Outcome(tuple(argv), child.returncode, stdout, stderr, seconds)
        if check and outcome.code != 0:
            raise CommandFailed(outcome)
        return outcome

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 120.0) -> str:
        """Run kubectl and return what it printed."""
        return self.run("kubectl", *arguments, stdin=stdin, timeout=timeout).stdout

    def ararat(self, *arguments: str, timeout: float = 300.0, check: bool = True) -> Outcome:
        """Run the command line under test."""
        return self.run("ararat", *arguments, timeout=timeout, check=check)

    def get(self, kind: str, name: str, *, namespace: str | None = None) -> Object | None:
        """One object, or None where there is none."""
        with self._told(f"get {kind} {name}"):
            return self._reader.get(kind, name, namespace=namespace)

    def items(
        self, kind: str, *, namespace: str | None = None, selector: str | None = None
    ) -> list[Object]:
        """The objects of a kind; in all namespaces where none is named."""
        with self._told(f"get {kind}"):
            return self._reader.items(kind, namespace=namespace, selector=selector)

    def apply(self, documents: Iterable[Object]) -> None:
        """Apply objects, in their order."""
        listing = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(listing))

    def exec(
        self,
        namespace: str,
        pod: str,
        argv: Sequence[str],
        *,
        container: str | None = None,
        stdin: str | None = None,
        timeout: float = 120.0,
    ) -> str:
        """Run a command in a container and return what it printed."""
        where = ("-n", namespace, pod, *(("-c", container) if container else ()))
        interactive = ("-i",) if stdin is not None else ()
        command = ("exec", *where, *interactive, "--", *argv)
        try:
            return self.kubectl(*command, stdin=stdin, timeout=timeout)
        except CommandFailed as failed:
            # The runtime lost it before it began (seen once in hundreds): nothing has been done.
            if "unable to start container process: read init-p" not in failed.outcome.stderr:
                raise
            return self.kubectl(*command, stdin=stdin, timeout=timeout)

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """What cannot be read fails as a command does."""
        try:
            yield
        except ReadFailed as failed:
            outcome = Outcome(("kubectl", *what.split()), 1, "", str(failed), 0.0)
            raise CommandFailed(outcome) from failed


def _pump(child: subprocess.Popen[str], *, stdin: str | None, echo: Echo | None) -> tuple[str, str]:
    """Both output streams, shown as they come; *stdin* is fed meanwhile."""
    collected: dict[str, list[str]] = {"stdout": [], "stderr": []}

    def read(name: str, stream: IO[str]) -> None:
        for line in stream:
            collected[name].append(line)
            if echo is not None:
                echo.output(line.rstrip("\n"))

    def feed(stream: IO[str], text: str) -> None:
        try:
            with stream:
                stream.write(text)
        except BrokenPipeError:
            pass  # it ended early, and its code says why

    assert child.stdout is not None
    assert child.stderr is not None
    threads = [
        threading.Thread(target=read, args=("stdout", child.stdout)),
        threading.Thread(target=read, args=("stderr", child.stderr)),
    ]
    if stdin is not None and child.stdin is not None:
        threads.append(threading.Thread(target=feed, args=(child.stdin, stdin)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return "".join(collected["stdout"]), "".join(collected["stderr"])
