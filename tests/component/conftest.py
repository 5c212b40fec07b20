from __future__ import annotations

import pytest
from xdist.remote import Producer

from tests.component.dealing import DirectoryScheduling


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> DirectoryScheduling | None:
    if config.getoption("dist") != "loadfile":
        return None
    return DirectoryScheduling(config, log)
