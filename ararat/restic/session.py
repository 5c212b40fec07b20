"""A session: one repository, opened for one job.

Problem: between restic and the store stand a server, a socket, a password and locks that must be
gone afterwards, however the job ends.
Decision: one context manager owns them all. When it is left, no child runs any more (``process``
sees to that), requests under way are finished, the session's own locks are removed from the store,
and the session's directory goes. A store that hangs delays that by ``Settings.closing`` at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from ararat.blob.errors import StoreUnreachable
from ararat.blob.store import BlobStore
from ararat.errors import AraratError

from .commands import Restic
from .drops import Drops
from .flow import shared_flow
from .models import Access, LockOwner
from .repository_blobs import RepositoryBlobs
from .rest_server import SOCKET_LIMIT, RestServer
from .runner import Runner, Session
from .settings import Settings
from .version import find_restic

_SOCKET = "s"
#: Of the time for leaving, what requests under way get; the rest is for the locks.
_IDLE_SHARE = 0.6
#: What ending those requests takes, once nothing waits for the store any more.
_ABANDON_SECONDS = 5.0


@asynccontextmanager
async def open_repository(
    *,
    store: BlobStore,
    directory: str,
    password: str,
    key_id: str = "",
    access: Access,
    owner: LockOwner,
    cache_dir: Path | None,
    scratch_dir: Path,
    settings: Settings | None = None,
    drops: Drops | None = None,
) -> AsyncIterator[Restic]:
    """The repository in ``directory``, as one method per restic command.

    Starts the REST server on a socket in a fresh directory below ``scratch_dir``; at the end it
    stops the server and removes the locks that this session left behind. Nothing is asked of the
    store before the first command. Raises ResticMissing where there is no usable restic.
    """
    async with open_runner(
        store=store,
        directory=directory,
        password=password,
        key_id=key_id,
        access=access,
        owner=owner,
        cache_dir=cache_dir,
        scratch_dir=scratch_dir,
        settings=settings,
        drops=drops,
    ) as runner:
        yield Restic(runner)


@asynccontextmanager
async def open_runner(
    *,
    store: BlobStore,
    directory: str,
    password: str,
    key_id: str,
    access: Access,
    owner: LockOwner,
    cache_dir: Path | None,
    scratch_dir: Path,
    settings: Settings | None,
    drops: Drops | None = None,
) -> AsyncIterator[Runner]:
    """For this package: the same, one layer below."""
    chosen = settings or Settings()
    flow = shared_flow(budget=chosen.buffer_budget, bandwidth=chosen.bandwidth)
    binary = await find_restic()
    runners: list[Runner] = []

    def on_fatal(_: AraratError) -> None:
        for runner in runners:
            runner.stop()

    blobs = RepositoryBlobs(
        store,
        directory,
        access=access,
        owner=owner,
        settings=chosen,
        flow=flow,
        on_fatal=on_fatal,
        drops=drops,
    )
    if cache_dir is not None:
        cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _private_directory(scratch_dir) as scratch, _socket_directory(scratch) as sockets:
        temporary = scratch / "tmp"
        temporary.mkdir(mode=0o700)
        async with RestServer(blobs, sockets / _SOCKET, settings=chosen, flow=flow) as server:
            session = Session(
                binary=binary,
                server=server,
                blobs=blobs,
                directory=directory,
                password=password,
                key_id=key_id,
                access=access,
                cache_dir=cache_dir,
                scratch=temporary,
                settings=chosen,
            )
            runners.append(Runner(session))
            try:
                yield runners[0]
            finally:
                await _finish(server, blobs, seconds=chosen.closing)


async def _finish(server: RestServer, blobs: RepositoryBlobs, *, seconds: float) -> None:
    """The last of the session, to be done even while the task is being cancelled.

    Ends in ``seconds`` and a little, whatever the store does. restic is gone, so uploads under way
    are of no use to anybody; but their locks must be known before the sweep.
    """

    async def finish() -> None:
        if not await server.idle(seconds * _IDLE_SHARE):
            blobs.fail(StoreUnreachable("the store did not answer before the session was left"))
            await server.idle(_ABANDON_SECONDS)
        await blobs.sweep(seconds * (1 - _IDLE_SHARE))
        blobs.close()

    task = asyncio.ensure_future(finish())
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


@contextlib.contextmanager
def _private_directory(below: Path) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="r", dir=below))  # mode 0700
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _socket_directory(scratch: Path) -> Iterator[Path]:
    """The session's directory, or one in the system's where the path is too long for a socket."""
    if len(str(scratch / _SOCKET).encode()) <= SOCKET_LIMIT:
        yield scratch
    else:
        with _private_directory(Path(tempfile.gettempdir())) as path:
            yield path
