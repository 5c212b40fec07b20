"""Worlds for the tests of backups, one for each test."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ararat.kube import KubeClient, connect
from ararat.restic.version import VARIABLE
from tests.cluster.apiserver import ControlPlane
from tests.cluster.toolchain import restic as toolchain

from .world import World


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
