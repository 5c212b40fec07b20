"""What is checked after a volume was filled, before anybody relies on it.

Problem: restic says that it wrote everything. Whether the volume has it is another question: a
disk, a filer or a driver may have kept less, or something else.
Decision: None believes restic. Sample (what a restore does unless told otherwise) walks the volume,
compares the number and the sizes of all files with what restic restored, and reads a few of them
back. Full reads all of them back. "Read back" means: after what was written went to the disk, with
the files dropped from the node's memory, compared with the checksums in the snapshot
(ararat/restic/compare.py). A sample need not wait until the disk has everything: its files are
brought there by themselves, while the rest is on its way.
Limits: not every file system lets go of its pages when asked. Nothing is fetched from the store.
"""

from __future__ import annotations

import asyncio
import os
import random
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from itertools import combinations

from ararat.api.nodejob import Verified, Verify
from ararat.errors import AraratError
from ararat.human import plural, size
from ararat.restic.models import CompareRequest, CompareResult, RestoreResult

from .context import Engine, Run
from .droppings import DROPPINGS
from .flush import LEAST_BYTES_PER_SECOND
from .include import pattern
from .stoppable import in_thread_on

#: What Sample reads back: so many files at most, and so much of them in all.
SAMPLE_FILES = 32
SAMPLE_BYTES = 256 << 20
_LOST_AND_FOUND = "lost+found"
#: What a provider may put into a volume's root by itself; each may also be the user's.
_PROVIDERS = DROPPINGS - {_LOST_AND_FOUND}
_TOUCH_EVERY = 1000
#: What a comparison may take beside the reading.
_LEAST_SECONDS = 900.0


class ContentDiffers(AraratError):
    """The volume does not hold what the snapshot holds, although restic says that it wrote it."""

    default_reason = "ContentDiffers"


@dataclass
class Counts:
    entries: int = 0
    files: int = 0
    #: Each name counted.
    bytes: int = 0
    #: Files with several names counted once.
    bytes_once: int = 0

    def plus(self, other: Counts) -> Counts:
        return Counts(
            self.entries + other.entries,
            self.files + other.files,
            self.bytes + other.bytes,
            self.bytes_once + other.bytes_once,
        )


@dataclass
class Walked:
    """What a volume holds."""

    own: Counts = field(default_factory=Counts)
    #: What may be a provider's, by its name in the root.
    provided: dict[str, Counts] = field(default_factory=dict)
    #: Paths relative to the root.
    sample: list[str] = field(default_factory=list)


async def verify(
    restic: Engine,
    volume: int,
    run: Run,
    *,
    snapshot_id: str,
    result: RestoreResult,
    level: Verify,
    flushing: asyncio.Future[None],
    merged: bool = False,
) -> Verified | None:
    """Raises ContentDiffers, and what restic's end and that of ``flushing`` mean.

    ``flushing`` is done when everything is on the disk. ``merged``: with what was there, so that
    there is nothing to count.
    """
    if level is Verify.NONE:
        return None
    begun = time.monotonic()
    if level is Verify.FULL:
        await asyncio.shield(flushing)
    run.say("Checks what was restored." if level is Verify.SAMPLE else "Reads everything back.")
    walked = await _walked(volume, evict_all=level is Verify.FULL, touch=run.meter.touch)
    counts = walked.own if merged else check_counts(walked, result)
    compared = CompareResult()
    if counts.files and (walked.sample or level is Verify.FULL):
        include: tuple[str, ...] = ()
        if level is Verify.SAMPLE:
            include = tuple(pattern(path) for path in walked.sample)
            await _to_the_disk(volume, walked.sample, flushing)
        late = begun + _LEAST_SECONDS + counts.bytes / LEAST_BYTES_PER_SECOND

        def alive() -> None:
            if time.monotonic() < late:
                run.meter.touch()

        request = CompareRequest(
            snapshot_id=snapshot_id,
            target=volume,
            include=include,
            # Over in seconds, and restic waits for a part of one after each lock.
            lock=level is Verify.FULL,
        )
        compared = await restic.compare(request, on_line=alive)
        check_content(compared)
    return Verified(
        files=counts.files,
        bytes=counts.bytes,
        files_read=compared.files_same,
        bytes_read=compared.bytes_same,
        seconds=round(time.monotonic() - begun, 3),
    )


def check_counts(walked: Walked, result: RestoreResult) -> Counts:
    """Pure: what of the volume is restored, if that is as much as restic says."""
    entries, written = result.files_total, result.bytes_total
    for some in _subsets(list(walked.provided.values())):
        found = reduce(Counts.plus, some, walked.own)
        if (found.entries, found.bytes_once) == (entries, written):
            return found
    found = walked.own
    raise ContentDiffers(
        f"restic restored {entries:,} entries with {size(written)}, and the "
        f"volume holds {found.entries:,} with {size(found.bytes_once)}."
    )


def _subsets(counts: list[Counts]) -> Iterator[tuple[Counts, ...]]:
    """Which of them are the user's is not known; there are few."""
    for number in range(len(counts) + 1):
        yield from combinations(counts, number)


def check_content(compared: CompareResult) -> None:
    """Pure."""
    if compared.failed_count:
        first = compared.failed[0]
        raise ContentDiffers(
            f"{plural(compared.failed_count, 'file')} could not be read back, the first: "
            f"{first.path}: {first.message}."
        )
    if compared.different_count:
        raise ContentDiffers(
            f"{plural(compared.different_count, 'file')} did not come back as they are in the "
            f"snapshot, the first: {compared.different[0]}."
        )


async def _walked(volume: int, *, evict_all: bool, touch: Callable[[], None]) -> Walked:
    def work(fd: int, stopped: Callable[[], bool]) -> Walked:
        return walk(fd, evict_all=evict_all, touch=touch, stopped=stopped)

    return await in_thread_on(volume, work)


def walk(
    volume: int,
    *,
    evict_all: bool = False,
    touch: Callable[[], None] = lambda: None,
    stopped: Callable[[], bool] = lambda: False,
    chosen: random.Random | None = None,
) -> Walked:
    """Everything below an open directory, no link followed. Raises ContentDiffers."""
    walked = Walked()
    picker = chosen or random.Random()  # noqa: S311 - a sample, not a secret
    sample: list[tuple[str, int]] = []
    seen: set[tuple[int, int]] = set()
    pending = [""]
    try:
        while pending and not stopped():
            directory = pending.pop()
            for name, info in _entries(volume, directory):
                path = f"{directory}/{name}" if directory else name
                if path == _LOST_AND_FOUND:
                    continue
                top = path.split("/")[0]
                counts = walked.own
                if top in _PROVIDERS:
                    counts = walked.provided.setdefault(top, Counts())
                counts.entries += 1
                if counts.entries % _TOUCH_EVERY == 0:
                    touch()
                if stat.S_ISDIR(info.st_mode):
                    pending.append(path)
                if not stat.S_ISREG(info.st_mode):
                    continue
                counts.files += 1
                counts.bytes += info.st_size
                if info.st_nlink == 1 or (info.st_dev, info.st_ino) not in seen:
                    counts.bytes_once += info.st_size
                    if info.st_nlink > 1:
                        seen.add((info.st_dev, info.st_ino))
                if evict_all:
                    with _opened(path, volume) as fd:
                        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                elif info.st_size <= SAMPLE_BYTES and _plain(path):
                    _pick(sample, (path, info.st_size), counts.files, picker)
    except OSError as error:
        raise ContentDiffers(f"The volume cannot be walked: {error}.") from error
    total = 0
    for path, length in sample:
        if total + length <= SAMPLE_BYTES:
            total += length
            walked.sample.append(path)
    return walked


def _pick(
    sample: list[tuple[str, int]], file: tuple[str, int], number: int, picker: random.Random
) -> None:
    """Each file has the same chance, however many they are."""
    if len(sample) < SAMPLE_FILES:
        sample.append(file)
    else:
        place = picker.randrange(number)
        if place < SAMPLE_FILES:
            sample[place] = file


def _plain(path: str) -> bool:
    """Whether it can be named to restic."""
    return path.isprintable()


async def _to_the_disk(volume: int, sample: list[str], flushing: asyncio.Future[None]) -> None:
    """Files that will be read from there: written to it, and out of the node's memory."""
    try:
        await _each(volume, sample, _synced)
    except OSError:
        # Not every file system does that for a file open for reading. If the disk refused it, the
        # flush of everything hears so, too.
        await asyncio.shield(flushing)
    try:
        await _each(volume, sample, _evicted)
    except OSError as error:
        raise ContentDiffers(f"What was restored cannot be opened: {error}.") from error


async def _each(volume: int, paths: list[str], call: Callable[[int], None]) -> None:
    def work(directory: int, stopped: Callable[[], bool]) -> None:
        for path in paths:
            if stopped():
                return
            with _opened(path, directory) as fd:
                call(fd)

    await in_thread_on(volume, work)


def _synced(fd: int) -> None:
    os.fdatasync(fd)


def _evicted(fd: int) -> None:
    """Out of the node's memory, so that reading reads the disk, from now on while restic starts."""
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED)


@contextmanager
def _opened(path: str, directory: int) -> Iterator[int]:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(path, flags, dir_fd=directory)
    try:
        yield fd
    finally:
        os.close(fd)


def _entries(volume: int, directory: str) -> Iterator[tuple[str, os.stat_result]]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(directory or ".", flags, dir_fd=volume)
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                yield entry.name, entry.stat(follow_symlinks=False)
    finally:
        os.close(fd)
