"""One real API server with our CRDs for all restore tests; a world of its own for each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ararat.kube import KubeApi, connect
from tests.cluster.apiserver import ControlPlane
from tests.component.controller.restore.world import World
from tests.component.our_kinds import serving_our_kinds


@pytest.fixture(scope="package")
def control_plane() -> Iterator[ControlPlane]:
    with serving_our_kinds() as running:
        yield running


@pytest.fixture
async def api(control_plane: ControlPlane) -> AsyncIterator[KubeApi]:
    async with connect(str(control_plane.kubeconfig)) as connected:
        yield connected


@pytest.fixture
async def world(control_plane: ControlPlane, api: KubeApi, tmp_path: Path) -> AsyncIterator[World]:
    async with World(api, control_plane, tmp_path).running() as made:
        yield made
