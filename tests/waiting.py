"""What asyncio waits for, when a test has run out of time.

A stack of threads shows a loop in its selector and nothing else; this shows each task and the chain
of coroutines down to what it awaits.
"""

from __future__ import annotations

import asyncio
import sys
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType
from typing import Any, TextIO


def print_tasks(out: TextIO | None = None) -> None:
    """Every unfinished task of the loop that runs in this thread; nothing where none runs."""
    out = out or sys.stderr
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:
        return
    print(f"\n{len(tasks)} tasks of asyncio:", file=out)
    for task in sorted(tasks, key=lambda task: task.get_name()):
        cancelled = f", {task.cancelling()} cancels" if task.cancelling() else ""
        print(f"{task.get_name()}{cancelled}", file=out)
        for frame in _frames(task.get_coro()):
            code = frame.f_code
            print(f"    {code.co_filename}:{frame.f_lineno} {code.co_qualname}", file=out)


def _frames(awaited: Any) -> list[FrameType]:
    frames: list[FrameType | None] = []
    while awaited is not None:
        match awaited:
            case CoroutineType():
                frames.append(awaited.cr_frame)
                awaited = awaited.cr_await
            case GeneratorType():
                frames.append(awaited.gi_frame)
                awaited = awaited.gi_yieldfrom
            case AsyncGeneratorType():
                frames.append(awaited.ag_frame)
                awaited = awaited.ag_await
            case _:
                break
    return [frame for frame in frames if frame is not None]
