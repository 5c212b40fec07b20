"""One real API server with our CRDs for the tests of the controller; each makes a world of its own.

A server costs seconds of CPU to start. The tests of restores have another one: what others leave
behind in the cluster's own scope would be in their way.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.apiserver import ControlPlane
from tests.component.our_kinds import serving_our_kinds


@pytest.fixture(scope="package")
def control_plane() -> Iterator[ControlPlane]:
    with serving_our_kinds() as running:
        yield running
