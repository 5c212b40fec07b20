"""One real API server with our CRDs for all tests of the agent; a world of its own for each."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ararat.kube import KubeApi, connect
from ararat.restic.version import VARIABLE
from tests.cluster.apiserver import ControlPlane
from tests.cluster.toolchain import restic as toolchain
from tests.component.agent.engine import FakeEngine
from tests.component.agent.real import prepare_real
from tests.component.agent.world import World
from tests.component.our_kinds import serving_our_kinds


@pytest.fixture(scope="session", autouse=True)
def root() -> None:
    """What cannot run fails and says why."""
    if os.geteuid() != 0:
        pytest.fail("these tests make mounts: run them as root")


@pytest.fixture(scope="package")
def control_plane() -> Iterator[ControlPlane]:
    with serving_our_kinds() as running:
        yield running


@pytest.fixture
async def api(control_plane: ControlPlane) -> AsyncIterator[KubeApi]:
    async with connect(str(control_plane.kubeconfig)) as connected:
        yield connected


@pytest.fixture
async def world(api: KubeApi, tmp_path: Path) -> AsyncIterator[World]:
    made = World(api, tmp_path)
    await made.prepare()
    yield made
    made.kubelet.close()


@pytest.fixture(scope="session")
def restic() -> Path:
    """The real one, found by the product where its image would have it."""
    found = toolchain.ensure()
    os.environ[VARIABLE] = str(found)
    return found


@pytest.fixture
async def real_world(api: KubeApi, tmp_path: Path, restic: Path) -> AsyncIterator[World]:
    """A world whose location holds a real repository."""
    made = World(api, tmp_path)
    await prepare_real(made)
    yield made
    made.kubelet.close()


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()
