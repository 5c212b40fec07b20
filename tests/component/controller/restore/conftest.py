"""One real API server with our CRDs for all restore tests; a world of its own for each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ararat.kube import KubeApi, connect
from tests.cluster.api import ApiError
from tests.cluster.apiserver import ControlPlane
from tests.component.controller.restore.world import World

CRDS = Path(__file__).parents[4] / "charts/ararat/crds"


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    with ControlPlane() as running:
        for file in sorted(CRDS.glob("*.yaml")):
            crd = yaml.safe_load(file.read_text())
            schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
            schema["properties"]["metadata"].pop("description", None)
            running.api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
        for file in sorted(CRDS.glob("*.yaml")):
            plural = yaml.safe_load(file.read_text())["spec"]["names"]["plural"]
            running.apiserver.wait_until(
                lambda plural=plural: _served(running, plural),  # type: ignore[misc]
                timeout=30,
                what=f"{plural} to be served",
            )
        yield running


def _served(control_plane: ControlPlane, plural: str) -> Any:
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
async def world(control_plane: ControlPlane, api: KubeApi, tmp_path: Path) -> AsyncIterator[World]:
    async with World(api, control_plane, tmp_path).running() as made:
        yield made
