"""The API server alone, as component tests use it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.cluster.api import ApiClient, ApiError
from tests.cluster.apiserver import ControlPlane

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    with ControlPlane() as running:
        yield running
    assert not running.directory.exists()
    assert not running.etcd.alive
    assert not running.apiserver.alive


def test_it_keeps_its_data_and_address_over_a_restart(control_plane: ControlPlane) -> None:
    body = {"metadata": {"name": "kept"}, "data": {"a": "b"}}
    control_plane.api.create("/api/v1/namespaces/default/configmaps", body)
    control_plane.stop_apiserver()
    assert not control_plane.api.ready()
    control_plane.start_apiserver()
    kept = control_plane.api.get("/api/v1/namespaces/default/configmaps/kept")
    assert kept["data"] == {"a": "b"}


def test_pods_can_be_made_without_service_accounts(control_plane: ControlPlane) -> None:
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "none"}]}}
    made = control_plane.api.create("/api/v1/namespaces/default/pods", pod)
    assert made["metadata"]["uid"]


def test_a_custom_resource_may_hold_an_empty_string(control_plane: ControlPlane) -> None:
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"text": {"type": "string"}}}},
    }
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.ararat.test"},
        "spec": {
            "group": "ararat.test",
            "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }
    api = control_plane.api
    api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
    path = "/apis/ararat.test/v1/namespaces/default/things"
    thing = {
        "apiVersion": "ararat.test/v1",
        "kind": "Thing",
        "metadata": {"name": "t"},
        "spec": {"text": ""},
    }
    deadline = time.monotonic() + 20
    while True:
        try:
            assert api.create(path, thing)["spec"] == {"text": ""}
            return
        except ApiError as error:
            # A new kind is not served at once.
            if error.status != 404 or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_another_user_has_only_what_rbac_gives(control_plane: ControlPlane) -> None:
    user = ApiClient(control_plane.user("nobody"))
    with pytest.raises(ApiError, match="403"):
        user.get("/api/v1/secrets")


def test_the_kubeconfig_carries_its_certificates(control_plane: ControlPlane) -> None:
    text = control_plane.kubeconfig.read_text()
    assert str(control_plane.directory) not in text
    assert json.loads(text)["clusters"][0]["cluster"]["server"] == control_plane.url


def test_two_run_side_by_side(control_plane: ControlPlane) -> None:
    with ControlPlane() as other:
        assert other.port != control_plane.port
        assert control_plane.api.ready()
