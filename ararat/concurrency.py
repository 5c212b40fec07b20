"""Many awaitables at once, but not too many; and the end of one that ran beside something."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def for_each(
    items: Iterable[T], work: Callable[[T], Awaitable[None]], *, at_once: int
) -> None:
    """``work`` on every item, at most ``at_once`` at a time.

    The first error ends the others and is raised as it is, not in a group.
    """
    gate = asyncio.Semaphore(at_once)
    failed = False

    async def one(item: T) -> None:
        nonlocal failed
        async with gate:
            if failed:
                return
            try:
                await work(item)
            except Exception:
                failed = True
                raise

    tasks = [asyncio.create_task(one(item)) for item in items]
    if not tasks:
        return
    # Not a TaskGroup: before Python 3.13 it forgets that it was cancelled when an error comes
    # along, and its caller would go on as if nothing had been asked of it.
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if task in done and not task.cancelled() and (error := task.exception()) is not None:
            raise error


async def stop(task: asyncio.Task[Any] | asyncio.Future[Any]) -> None:
    """Cancel it and wait until it has ended. Raises what it raised, but not that it was cancelled.

    Awaiting it in a ``suppress(CancelledError)`` would also lose the caller's own cancellation.
    """
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
