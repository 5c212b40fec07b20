"""The agent's program in another time: every time that a store says is moved.

``python -m tests.component.controller.life.moved maintain``, by ``ARARAT_TEST_MOVED`` seconds.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime, timedelta

from agent.__main__ import main
from ararat.blob import directory

VARIABLE = "ARARAT_TEST_MOVED"
_really = directory._time
_by = timedelta(seconds=float(os.environ[VARIABLE]))


def _time(found: os.stat_result) -> datetime:
    return _really(found) + _by


if __name__ == "__main__":
    directory._time = _time
    sys.exit(main())
