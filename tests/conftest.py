"""What holds for all tests, whoever starts them.

A program that a test calls in this process sets up logging; the next test starts without that.

A shell that runs something in the background has it ignore SIGINT, and so would every process that
a test starts and wants to interrupt.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Generator, Iterator
from types import FrameType

import pytest
import structlog

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


@pytest.fixture(autouse=True)
def logging_restored() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
