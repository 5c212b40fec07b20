from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ararat.kube import KubeClient, connect
from ararat.kube.resources import CRDS, NAMESPACES
from tests.cluster.apiserver import ControlPlane

from .proxy import Proxy


@pytest.fixture(scope="package")
def plane() -> Iterator[ControlPlane]:
    """A real API server."""
    with ControlPlane() as control_plane:
        yield control_plane


@pytest.fixture
async def api(plane: ControlPlane) -> AsyncIterator[KubeClient]:
    """A client that is connected directly, with its certificate."""
    async with connect(plane.kubeconfig) as client:
        yield client


@pytest.fixture
async def proxy(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Proxy]:
    async with Proxy(plane.kubeconfig, tmp_path) as running:
        yield running


@pytest.fixture
async def far(proxy: Proxy) -> AsyncIterator[KubeClient]:
    """A client behind the proxy, with short deadlines."""
    async with connect(proxy.kubeconfig, timeout=5) as client:
        yield client


@pytest.fixture
async def namespace(api: KubeClient) -> str:
    """A namespace of its own. It is never removed: nothing would finalize it."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    await api.create(NAMESPACES, {"metadata": {"name": name}})
    return name


@pytest.fixture
def crd() -> dict[str, object]:
    """A custom kind with a status subresource, in a group of its own."""
    group = f"g{uuid.uuid4().hex[:8]}.example.org"
    return {
        "apiVersion": CRDS.api_version,
        "kind": CRDS.kind,
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {
                "plural": "widgets",
                "singular": "widget",
                "kind": "Widget",
                "shortNames": ["wd"],
                "categories": ["all"],
            },
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": version == "v1",
                    "subresources": {"status": {}},
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {
                                "spec": {
                                    "type": "object",
                                    "properties": {"size": {"type": "integer", "minimum": 1}},
                                },
                                "status": {
                                    "type": "object",
                                    "x-kubernetes-preserve-unknown-fields": True,
                                },
                            },
                        }
                    },
                }
                for version in ("v1", "v1beta1")
            ],
        },
    }
