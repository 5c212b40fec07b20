"""What holds for all tests, whoever starts them.

A shell that runs something in the background has it ignore SIGINT, and so would every process that
a test starts and wants to interrupt.
"""

from __future__ import annotations

import signal
from collections.abc import Generator
from types import FrameType

import pytest

from tests.waiting import print_tasks

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer() -> Generator[None, object, object]:
    """Before a test is ended for its time, say what its tasks wait for."""
    made = yield
    end = signal.getsignal(signal.SIGALRM)
    if callable(end):

        def say_and_end(number: int, frame: FrameType | None) -> None:
            print_tasks()
            end(number, frame)

        signal.signal(signal.SIGALRM, say_and_end)
    return made
