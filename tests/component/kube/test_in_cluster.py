"""A pod's login: address from the environment, token and CA from files, the token renewed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio.config.incluster_config import InClusterConfigLoader

from ararat.errors import InvalidSpec
from ararat.kube import Forbidden, KubeClient, Unauthorized, connect, connection
from ararat.kube.resources import PODS, SERVICE_ACCOUNTS
from tests.cluster.apiserver import ControlPlane


class Impatient(InClusterConfigLoader):
    """Reads the token again at every call instead of once a minute."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._token_refresh_period = timedelta(0)


def token(plane: ControlPlane, namespace: str, account: str) -> str:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer: str = plane.api.request("POST", path, body=request)["status"]["token"]
    return answer


async def test_a_rotated_token_is_used(
    plane: ControlPlane,
    api: KubeClient,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    for name in ("first", "second"):
        await api.create(SERVICE_ACCOUNTS, {"metadata": {"name": name}}, namespace=namespace)
    file = tmp_path / "token"
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(plane.port))
    # A proxy for the outside world is not for the API server.
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setattr(connection, "SERVICE_TOKEN_FILENAME", str(file))
    monkeypatch.setattr(connection, "SERVICE_CERT_FILENAME", str(plane.ca.certificate))
    monkeypatch.setattr(connection, "InClusterConfigLoader", Impatient)

    file.write_text(token(plane, namespace, "first"))
    async with connect() as client:
        with pytest.raises(Forbidden, match=f"system:serviceaccount:{namespace}:first"):
            await client.get(PODS, "a", namespace=namespace)
        file.write_text(token(plane, namespace, "second"))
        with pytest.raises(Forbidden, match=f"system:serviceaccount:{namespace}:second"):
            await client.get(PODS, "a", namespace=namespace)
        file.write_text("nonsense")
        with pytest.raises(Unauthorized):
            await client.get(PODS, "a", namespace=namespace)

    file.write_text("")
    with pytest.raises(InvalidSpec, match="service account"):
        async with connect():
            pass
