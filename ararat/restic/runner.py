"""Runs one restic command against a session's server.

Decision: everything that all commands share is here: the password's pipe, the sandbox, the child's
environment, recognising an exhausted memory, and the order of blame. If the server has given up on
the store, that is the reason, whatever restic made of it; otherwise restic's exit code is.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from ararat import process
from ararat.errors import AraratError
from ararat.process import Child, Command, Exit, Sandbox

from . import arguments, caches, cgroup, exit_codes, messages, sandbox
from .environment import child_environment, memory_share
from .errors import WrongPassword
from .models import Access, CopySource, SessionStats
from .repository_blobs import RepositoryBlobs
from .rest_paths import Kind
from .rest_server import RestServer
from .settings import Settings
from .tuning import Machine
from .version import Binary

log = structlog.get_logger()
#: For finding out whose the keys are that a password does not open.
_WHOSE_SECONDS = 20.0
OnMessage = Callable[[messages.Message], None]


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a session has opened; made by ``session.open_repository``."""

    binary: Binary
    server: RestServer
    blobs: RepositoryBlobs
    directory: str
    password: str
    key_id: str
    access: Access
    cache_dir: Path | None
    #: The session's own directory for restic's temporary files.
    scratch: Path
    settings: Settings


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it said on stderr besides messages for the caller."""

    end: Exit
    said: str | None = None
    oom: bool = False


@dataclass(frozen=True)
class Inherited:
    """A pipe that the child inherits, and the secret in it."""

    descriptor: int
    secret: str

    @property
    def path(self) -> str:
        return f"/dev/fd/{self.descriptor}"


class Runner:
    """The commands of one session; several may run at once."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._limits = cgroup.limits()
        self._children: set[Child] = set()
        self._exits: Counter[tuple[str, str]] = Counter()

    @property
    def machine(self) -> Machine:
        """What one restic of this session may use."""
        cpu = self._limits.cpu
        cores = len(os.sched_getaffinity(0)) if cpu is None else max(1, math.ceil(cpu))
        return Machine(cores, memory_share(self._limits, self.session.settings))

    @property
    def stats(self) -> SessionStats:
        return replace(self.session.server.stats, exits=dict(self._exits))

    @property
    def as_source(self) -> CopySource:
        """This session's repository, for a command of another session that reads from it."""
        session = self.session
        return CopySource(
            url=session.server.url,
            key_id=session.key_id,
            read_only=session.access is Access.READ_ONLY,
        )

    def stop(self) -> None:
        """Ask every running child to end."""
        for child in list(self._children):
            child.stop()

    async def run(
        self,
        command: list[str],
        *,
        what: str,
        on_line: Callable[[str], None] | None = None,
        on_error: OnMessage | None = None,
        directory: int | None = None,
        confined: Sandbox | None = None,
        connections: int | None = None,
        accept: tuple[int, ...] = (0,),
        inherited: Inherited | None = None,
    ) -> Outcome:
        """Run to the end. Raises what the end means, unless its code is in ``accept``."""
        for _ in range(caches.TRIES):
            outcome = await self._once(
                command,
                on_line=on_line,
                on_error=on_error,
                directory=directory,
                confined=confined,
                connections=connections,
                inherited=inherited,
            )
            # A second secret's pipe has been read by then.
            if inherited is not None or not await self._cache_mended(outcome.said):
                break
        if outcome.end.code not in accept:
            failure = self.failure(outcome, what)
            raise await self._whose(failure) if isinstance(failure, WrongPassword) else failure
        return outcome

    async def _cache_mended(self, said: str | None) -> bool:
        """Whether the command ended for a broken cache, so that another try is worth it."""
        directory = self.session.cache_dir
        if directory is None or not caches.unreadable(said):
            return False
        mended = await asyncio.to_thread(caches.mend, directory)
        log.warning("cache was unreadable", said=said, mended=mended)
        return True

    async def _once(
        self,
        command: list[str],
        *,
        on_line: Callable[[str], None] | None,
        on_error: OnMessage | None,
        directory: int | None,
        confined: Sandbox | None,
        connections: int | None,
        inherited: Inherited | None,
    ) -> Outcome:
        said: list[str] = []

        def on_stderr(line: str) -> None:
            message = messages.parse_message(line)
            text = messages.exit_error(message)
            if text is not None:
                said.append(text)
            elif message and on_error is not None:
                on_error(message)

        kills = cgroup.oom_kills()
        with self._command(command, directory, confined, connections, inherited) as child_command:
            try:
                end = await process.run(
                    child_command,
                    grace=self.session.settings.grace,
                    on_stdout=on_line,
                    on_stderr=on_stderr,
                    on_start=self._started,
                )
            finally:
                await self._ended()
        self._exits[command[0], _code(end)] += 1
        return Outcome(end, said[-1] if said else None, _more(kills, cgroup.oom_kills()))

    @contextlib.contextmanager
    def inheriting(self, secret: str) -> Iterator[Inherited]:
        """A second secret for a command: another password, passed like the session's own."""
        with _pipe_with(secret) as descriptor:
            yield Inherited(descriptor, secret)

    async def stream(self, command: list[str], *, what: str) -> AsyncGenerator[bytes, None]:
        """stdout as it comes; an error at the end is raised after the last piece."""
        for _ in range(caches.TRIES):
            said: list[str] = []
            begun = False

            def on_stderr(line: str, said: list[str] = said) -> None:
                text = messages.exit_error(messages.parse_message(line))
                if text is not None:
                    said.append(text)

            kills = cgroup.oom_kills()
            with self._command(command, None, None, None, None) as child_command:
                try:
                    async with process.start(
                        child_command, grace=self.session.settings.grace, on_stderr=on_stderr
                    ) as child:
                        self._started(child)
                        async for chunk in child.chunks():
                            begun = True
                            yield chunk
                        end = await child.wait()
                finally:
                    await self._ended()
            self._exits[command[0], _code(end)] += 1
            if end.code == 0:
                return
            oom = _more(kills, cgroup.oom_kills())
            outcome = Outcome(end, said[-1] if said else None, oom)
            if begun or not await self._cache_mended(outcome.said):
                break
        raise self.failure(outcome, what)

    def failure(self, outcome: Outcome, what: str) -> AraratError:
        fatal = self.session.blobs.fatal
        if fatal is not None:
            return fatal
        where = f"{what} ({self.session.directory})"
        return exit_codes.failure(outcome.end, what=where, said=outcome.said, oom=outcome.oom)

    async def _whose(self, failure: WrongPassword) -> WrongPassword:
        """A wrong password, with what the key files say about who they were written for."""
        from . import keyfile  # 8 MiB of cryptography, which an agent does not need otherwise

        store, folder = self.session.blobs.store, f"{self.session.directory}/{Kind.KEY}/"
        try:
            async with asyncio.timeout(_WHOSE_SECONDS):
                found = [
                    keyfile.identity(await store.get(blob.name))
                    async for blob in store.list(folder)
                ]
        except (AraratError, TimeoutError):
            return failure  # it stands without that
        known = sorted({who.text for who in found if who is not None})
        if not known:
            return failure
        text = f"{failure.message}: its keys are those of {', '.join(known)}"
        return WrongPassword(text, tail=failure.tail, code=failure.code)

    def default_sandbox(self) -> Sandbox | None:
        """For commands that touch no volume."""
        session = self.session
        return sandbox.build(
            binary=session.binary.path, scratch=session.scratch, cache=session.cache_dir
        )

    @contextlib.contextmanager
    def _command(
        self,
        command: list[str],
        directory: int | None,
        confined: Sandbox | None,
        connections: int | None,
        inherited: Inherited | None,
    ) -> Iterator[Command]:
        session = self.session
        if session.blobs.fatal is not None:
            raise session.blobs.fatal
        with _pipe_with(session.password) as descriptor:
            common = arguments.common(
                session.binary.path,
                url=session.server.url,
                password_file=f"/dev/fd/{descriptor}",
                key_id=session.key_id,
                access=session.access,
                cache_dir=session.cache_dir,
                connections=connections,
            )
            yield Command(
                argv=(*common, *command),
                env=child_environment(
                    session.scratch, limits=self._limits, settings=session.settings
                ),
                directory=directory,
                descriptors=(descriptor, *(() if inherited is None else (inherited.descriptor,))),
                sandbox=confined or (self.default_sandbox() if directory is None else None),
                secrets=(session.password, *(() if inherited is None else (inherited.secret,))),
                niceness=session.settings.niceness,
                io_priority=session.settings.io_priority,
            )

    def _started(self, child: Child) -> None:
        self._children = {c for c in self._children if not c.ended} | {child}
        if self.session.blobs.fatal is not None:
            child.stop()

    async def _ended(self) -> None:
        """After a child is gone, its lock must not stay in the way of the session's next one."""
        self._children = {child for child in self._children if not child.ended}
        if not self._children and await self.session.server.idle(self.session.settings.closing):
            await self.session.blobs.sweep()


@contextlib.contextmanager
def _pipe_with(secret: str) -> Iterator[int]:
    """The reading end of a pipe that holds the secret; restic opens it as a file."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            os.write(writing, secret.encode() + b"\n")  # far below a pipe's 64 KiB
        finally:
            os.close(writing)
        yield reading
    finally:
        os.close(reading)


def _code(end: Exit) -> str:
    return str(end.code) if end.signal is None else signal.Signals(end.signal).name


def _more(before: int | None, after: int | None) -> bool:
    return before is not None and after is not None and after > before
