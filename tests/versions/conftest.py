"""Two API servers: an old one that was backed up, and a newer, empty one that is restored into."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ararat.kube import KubeApi, connect
from tests.cluster.apiserver import ControlPlane
from tests.cluster.toolchain import newer
from tests.component.controller.restore.world import World
from tests.component.our_kinds import serving_our_kinds


@pytest.fixture(scope="session")
def old_plane() -> Iterator[ControlPlane]:
    with ControlPlane() as running:
        yield running


@pytest.fixture(scope="session")
def newer_plane() -> Iterator[ControlPlane]:
    with serving_our_kinds(newer.ensure()) as running:
        yield running


@pytest.fixture
async def source(old_plane: ControlPlane) -> AsyncIterator[KubeApi]:
    async with connect(str(old_plane.kubeconfig)) as connected:
        yield connected


@pytest.fixture
async def world(newer_plane: ControlPlane, tmp_path: Path) -> AsyncIterator[World]:
    async with (
        connect(str(newer_plane.kubeconfig)) as api,
        World(api, newer_plane, tmp_path).running() as made,
    ):
        yield made
