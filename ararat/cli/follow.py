"""``--wait``: follows a run to its end, by watching its object and its node jobs.

On a terminal a picture is kept up to date; elsewhere lines are printed as things happen. Nothing
is polled, and leaving changes nothing: the run goes on without us.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, TextIO

from ararat.api import (
    Backup,
    BackupVerification,
    PodVolumeBackup,
    PodVolumeRestore,
    Restore,
    names,
)
from ararat.cli import progress, session
from ararat.cli.objects import NOUNS, Kind
from ararat.cli.progress import State
from ararat.cli.settings import Settings
from ararat.errors import NotFound
from ararat.kube import Informer, KubeApi, KubeObject, of

if TYPE_CHECKING:
    from rich.live import Live

#: How often the clock on the screen moves.
TICK_SECONDS = 1.0


class Screen(Protocol):
    """Where progress is shown."""

    def show(self, state: State, *, hint: str) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Run:
    """What is followed: an object, and the node jobs that carry its UID in a label."""

    kind: Kind
    jobs: Kind
    label: str
    state: Callable[[KubeObject, Sequence[KubeObject]], State]


BACKUP = Run(
    kind=Backup,
    jobs=PodVolumeBackup,
    label=names.BACKUP_UID,
    state=lambda run, jobs: progress.of_backup(
        Backup.parse(run), [PodVolumeBackup.parse(job) for job in jobs]
    ),
)
RESTORE = Run(
    kind=Restore,
    jobs=PodVolumeRestore,
    label=names.RESTORE_UID,
    state=lambda run, jobs: progress.of_restore(
        Restore.parse(run), [PodVolumeRestore.parse(job) for job in jobs]
    ),
)

VERIFICATION = Run(
    kind=BackupVerification,
    jobs=PodVolumeRestore,
    label=names.RESTORE_UID,
    state=lambda run, jobs: progress.of_verification(
        BackupVerification.parse(run), [PodVolumeRestore.parse(job) for job in jobs]
    ),
)


async def follow(
    api: KubeApi, settings: Settings, run: Run, obj: KubeObject, screen: Screen
) -> KubeObject:
    """Until the run has ended; returns its last state.

    Raises NotFound where it was deleted, AccessDenied where its node jobs may not be read.
    """
    name, uid = str(obj["metadata"]["name"]), str(obj["metadata"]["uid"])
    namespace, labels = settings.namespace, f"{run.label}={uid}"
    # Informers try for ever; this listing says at once what would never work.
    async for _ in api.list(of(run.jobs), namespace=namespace, labels=labels):
        break
    own = Informer(api, of(run.kind), namespace=namespace, fields=f"metadata.name={name}")
    jobs = Informer(api, of(run.jobs), namespace=namespace, labels=labels)
    changed = asyncio.Event()
    for informer in (own, jobs):
        informer.on_change(lambda *_: changed.set())
    started = time.monotonic()
    try:
        async with _running(own, jobs):
            while True:
                changed.clear()
                current = next((o for o in own.items() if o["metadata"]["uid"] == uid), None)
                if current is None:
                    noun = NOUNS[run.kind]
                    raise NotFound(f"{noun} {name} was deleted while it was followed")
                state = run.state(current, jobs.items())
                screen.show(state, hint=_hint(settings, state, time.monotonic() - started))
                if state.terminal:
                    return current
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TICK_SECONDS):
                        await changed.wait()
    finally:
        screen.close()


@asynccontextmanager
async def _running(*informers: Informer) -> AsyncIterator[None]:
    """Informers that have synced; what the body raises comes out as it is, not in a group."""
    tasks = [asyncio.ensure_future(informer.run()) for informer in informers]
    try:
        for informer in informers:
            await informer.synced()
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _hint(settings: Settings, state: State, elapsed: float) -> str:
    if state.phase != "New" or state.message or elapsed < progress.IDLE_SECONDS:
        return ""
    return (
        "nobody has picked it up yet: is the controller running? see "
        f"'kubectl -n {settings.namespace} get pods'"
    )


class LineScreen:
    """One line per event, with the time of day."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines = progress.Lines()
        self._hint = ""

    def show(self, state: State, *, hint: str) -> None:
        lines = self._lines.update(state, time.monotonic())
        if hint and hint != self._hint:
            lines.append(hint)
        self._hint = hint
        for line in lines:
            self._stream.write(f"{datetime.now().astimezone():%H:%M:%S} {line}\n")
        self._stream.flush()

    def close(self) -> None:
        """Nothing is held."""


class LiveScreen:
    """A picture that is redrawn in place; the last one stays."""

    def __init__(self) -> None:
        self._live: Live | None = None
        self._started = time.monotonic()

    def show(self, state: State, *, hint: str) -> None:
        from rich.live import Live

        from ararat.cli import live

        if self._live is None:
            self._live = Live(auto_refresh=False, vertical_overflow="crop")
            self._live.start()
        height = self._live.console.height - 1
        elapsed = time.monotonic() - self._started
        picture = live.view(state, elapsed=elapsed, height=height, hint=hint)
        self._live.update(picture, refresh=True)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def screen_for(*, machine_output: bool) -> Screen:
    """Progress goes to stdout, unless stdout is for a machine."""
    stream = sys.stderr if machine_output else sys.stdout
    return LiveScreen() if stream.isatty() and not machine_output else LineScreen(stream)


def interrupted(noun: str, name: str, settings: Settings) -> None:
    """What Ctrl-C left behind, and what can be done about it."""
    session.note(
        f"the {noun} goes on; follow it with 'ararat {noun} wait {name}{settings.flags}', "
        f"end it with 'ararat {noun} cancel {name}{settings.flags}'"
    )
