"""One real API server with our CRDs for all tests of the agent; a world of its own for each."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import yaml

from ararat.kube import KubeApi, connect
from ararat.restic.version import VARIABLE
from tests.cluster.api import ApiError
from tests.cluster.apiserver import ControlPlane
from tests.cluster.toolchain import restic as toolchain
from tests.component.agent.engine import FakeEngine
from tests.component.agent.real import prepare_real
from tests.component.agent.world import World

CRDS = Path(__file__).parents[3] / "charts/ararat/crds"


@pytest.fixture(scope="session", autouse=True)
def root() -> None:
    """What cannot run fails and says why."""
    if os.geteuid() != 0:
        pytest.fail("these tests make mounts: run them as root")


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    with ControlPlane() as running:
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        for file in sorted(CRDS.glob("*.yaml")):
            running.api.create(path, yaml.safe_load(file.read_text()))
        for file in sorted(CRDS.glob("*.yaml")):
            plural = yaml.safe_load(file.read_text())["spec"]["names"]["plural"]
            running.apiserver.wait_until(
                lambda plural=plural: _served(running, plural),  # type: ignore[misc]
                timeout=30,
                what=f"{plural} to be served",
            )
        yield running


def _served(control_plane: ControlPlane, plural: str) -> bool:
    try:
        control_plane.api.get(f"/apis/ararat.dev/v1alpha1/{plural}")
    except ApiError:
        return False
    return True


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
