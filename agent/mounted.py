"""Opens a volume on this node and proves that it is the volume.

Problem: see agent/mounts.py; and between the proof and the work the path may be changed.
Decision: the directory is opened component by component, and it is the *descriptor* whose mount is
compared with the table. The work is done through it. Afterwards the same mount must still be there
and visible under the same path, else what was read or written is not trusted.
A volume that is not there yet is no failure: the caller waits as long as that is normal.
Limits: a call on a dead NFS server may hang for ever, so all of this runs in threads and under a
time limit; such a thread is lost until the server answers.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from ararat.errors import AraratError

from .directory import open_beneath
from .mounts import Mount, MountTable, mount_id_of, read_mounts
from .volumes import VolumeSource

_POLL_SECONDS = 0.5
_CALL_SECONDS = 30.0

P = ParamSpec("P")
T = TypeVar("T")


class VolumeNotMounted(AraratError):
    """The volume is not (or no longer) where the kubelet mounts it; nothing may be touched."""

    default_reason = "VolumeNotMounted"


class WrongMount(AraratError):
    """Something is there that the volume cannot be."""

    default_reason = "VolumeNotMounted"


@dataclass(frozen=True)
class OpenVolume:
    """A volume's root directory, open and proven."""

    fd: int
    path: Path
    mount: Mount
    source: VolumeSource
    device: int

    def confirm(self, *, read: Callable[[], MountTable] = read_mounts) -> None:
        """Raises VolumeNotMounted unless the path still leads to the mount that is open here."""
        table = read()
        now = table.at(str(self.path)) if self.source.mounted else table.containing(str(self.path))
        if now is None or now.id != self.mount.id:
            raise VolumeNotMounted(
                f"{self.path} was unmounted, or something else mounted over it, during the work."
            )
        try:
            info = os.stat(self.path, follow_symlinks=False)
        except OSError as error:
            raise VolumeNotMounted(f"{self.path} went away during the work: {error}.") from error
        mine = os.fstat(self.fd)
        if (info.st_dev, info.st_ino) != (mine.st_dev, mine.st_ino):
            raise VolumeNotMounted(f"{self.path} was replaced during the work.")


def open_volume(
    kubelet_dir: Path,
    pod_uid: str,
    source: VolumeSource,
    *,
    read: Callable[[], MountTable] = read_mounts,
) -> OpenVolume:
    """Raises VolumeNotMounted while it is not there, WrongMount where something else is."""
    base: tuple[str, ...] = ("pods", pod_uid, "volumes")
    top = kubelet_dir
    if source.below is not None:
        base, top = (), source.below
    found: list[tuple[int, Path]] = []
    try:
        for place in source.places:
            try:
                fd = open_beneath(top, *base, *place)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise WrongMount(
                    f"{top.joinpath(*base, *place)} cannot be opened: {error.strerror or error}."
                ) from error
            found.append((fd, top.joinpath(*base, *place)))
        if not found:
            wanted = " or ".join(str(top.joinpath(*base, *p)) for p in source.places)
            raise VolumeNotMounted(f"{wanted} does not exist on this node.")
        if len(found) > 1:
            both = " and ".join(str(path) for _, path in found)
            raise WrongMount(f"{both} both exist; it is not known which is the volume.")
        fd, path = found[0]
        opened = _prove(fd, path, source, read())
    except BaseException:
        for fd, _ in found:
            os.close(fd)
        raise
    return opened


def _prove(fd: int, path: Path, source: VolumeSource, table: MountTable) -> OpenVolume:
    here = table.containing(str(path))
    if here is None:
        raise VolumeNotMounted(f"The kernel names no mount for {path}.")
    if source.below is not None:
        _prove_of_the_node(here, source.below)
        is_mount_point = source.mounted
    else:
        is_mount_point = here.point == str(path)
    if source.mounted and not is_mount_point:
        raise VolumeNotMounted(
            f"{path} is a plain directory of the node's disk: nothing is mounted there."
        )
    if not source.mounted and is_mount_point:
        raise WrongMount(f"{path} should be a plain directory, but is {here}.")
    if source.fstype is not None and here.fstype != source.fstype:
        raise WrongMount(f"{path} should be {source.fstype}, but is {here}.")
    if mount_id_of(fd) != here.id:
        raise VolumeNotMounted(f"{path} was mounted or unmounted while it was being opened.")
    return OpenVolume(fd=fd, path=path, mount=here, source=source, device=os.fstat(fd).st_dev)


def _prove_of_the_node(here: Mount, allowed: Path) -> None:
    """A directory of the node is seen through a mount; everything else is our own image."""
    if here.point == "/":
        raise VolumeNotMounted(
            f"{allowed} is not mounted into the agent's container: list it in the chart's "
            "agent.hostPaths."
        )


@asynccontextmanager
async def volume_opened(
    kubelet_dir: Path,
    pod_uid: str,
    source: VolumeSource,
    *,
    wait_seconds: float,
    waiting: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[OpenVolume]:
    """Waits for the volume, opens and proves it, closes it at the end.

    ``waiting`` is told why, each time a look found nothing. Raises VolumeNotMounted when the time
    is over.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_seconds
    while True:
        try:
            opened = await limited(open_volume, kubelet_dir, pod_uid, source)
            break
        except VolumeNotMounted as error:
            if loop.time() >= deadline:
                raise
            waiting(error.message)
        await asyncio.sleep(_POLL_SECONDS)
    try:
        yield opened
    finally:
        os.close(opened.fd)


async def confirmed(volume: OpenVolume) -> None:
    """``OpenVolume.confirm`` without holding up the loop."""
    await limited(volume.confirm)


async def limited_on(
    fd: int, call: Callable[Concatenate[int, P], T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """``limited``, of a call on a descriptor, of which it gets a duplicate: one that was cancelled
    may have its turn when the volume is closed and its number is that of another."""
    mine = os.dup(fd)

    def work() -> T:
        try:
            return call(mine, *args, **kwargs)
        finally:
            os.close(mine)

    return await limited(work)


async def limited(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs the call in a thread; raises VolumeNotMounted where it hangs.

    A volume that a late call still opens is closed when it arrives; nothing else may be opened in
    a call, for nobody would close that.
    """
    work = asyncio.ensure_future(asyncio.to_thread(call, *args, **kwargs))
    try:
        async with asyncio.timeout(_CALL_SECONDS):
            return await asyncio.shield(work)
    except TimeoutError as error:
        work.add_done_callback(_discard)
        raise VolumeNotMounted(
            f"The volume's file system did not answer within {_CALL_SECONDS:.0f} s."
        ) from error
    except asyncio.CancelledError:
        work.add_done_callback(_discard)
        raise


def _discard(work: asyncio.Future[T]) -> None:
    if not work.cancelled() and work.exception() is None:
        result = work.result()
        if isinstance(result, OpenVolume):
            os.close(result.fd)
