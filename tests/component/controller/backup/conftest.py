"""One real API server with our CRDs for all backup tests; a world of its own for each."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import yaml

from ararat.kube import KubeClient, connect
from ararat.restic.version import VARIABLE
from tests.cluster.api import ApiError
from tests.cluster.apiserver import ControlPlane
from tests.cluster.toolchain import restic as toolchain

from .world import World

CRDS = Path(__file__).parents[4] / "charts/ararat/crds"


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    plurals = []
    with ControlPlane() as running:
        for file in sorted(CRDS.glob("*.yaml")):
            crd = yaml.safe_load(file.read_text())
            plurals.append(crd["spec"]["names"]["plural"])
            running.api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
        running.apiserver.wait_until(
            lambda: all(_served(running, plural) for plural in plurals),
            timeout=30,
            what="our kinds to be served",
        )
        yield running


def _served(control_plane: ControlPlane, plural: str) -> bool:
    try:
        control_plane.api.get(f"/apis/ararat.dev/v1alpha1/{plural}")
    except ApiError:
        return False
    return True


@pytest.fixture(scope="session", autouse=True)
def restic() -> Path:
    path = Path(os.environ.get(VARIABLE) or toolchain.ensure())
    os.environ[VARIABLE] = str(path)
    return path


@pytest.fixture
async def api(control_plane: ControlPlane) -> AsyncIterator[KubeClient]:
    async with connect(control_plane.kubeconfig) as client:
        yield client


@pytest.fixture
def work() -> Iterator[Path]:
    """A short path: sockets stand below it."""
    path = Path(tempfile.mkdtemp(prefix="ar", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
async def world(api: KubeClient, work: Path) -> World:
    made = World(api, work)
    await made.prepare()
    return made
