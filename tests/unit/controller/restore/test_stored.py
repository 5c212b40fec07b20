from __future__ import annotations

import json
from pathlib import Path

import pytest

from ararat.errors import Damaged
from ararat.quantity import parse_bytes
from controller.restore.stored import read_tree


def write(root: Path, path: str, body: object) -> None:
    file = root / "resources" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(body if isinstance(body, str) else json.dumps(body))


def test_objects_are_what_they_say_they_are(tmp_path: Path) -> None:
    long = "x" * 250
    write(
        tmp_path,
        "pods/namespaces/wp/cut~0123456789.json",
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": long, "namespace": "wp"}},
    )
    write(
        tmp_path,
        "clusterroles.rbac.authorization.k8s.io/cluster/system:x.json",
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "system:x"},
        },
    )
    found = list(read_tree(tmp_path))
    assert [str(obj) for obj in found] == [
        "clusterroles.rbac.authorization.k8s.io system:x",
        f"pods wp/{long}",
    ]
    role, pod = found
    assert (role.type.api_version, role.type.namespaced) == ("rbac.authorization.k8s.io/v1", False)
    assert (pod.type.path(namespace="wp"), pod.type.namespaced) == (
        "/api/v1/namespaces/wp/pods",
        True,
    )


@pytest.mark.parametrize(
    "body",
    [
        "{",
        [],
        {"apiVersion": "v1", "kind": "Pod"},
        {"apiVersion": "v1", "metadata": {"name": "a"}},
        {"apiVersion": "apps/v1", "kind": "Pod", "metadata": {"name": "a"}},
    ],
)
def test_what_is_no_object_is_damage(tmp_path: Path, body: object) -> None:
    write(tmp_path, "pods/namespaces/wp/a.json", body)
    with pytest.raises(Damaged, match=r"pods/namespaces/wp/a\.json"):
        list(read_tree(tmp_path))


def test_no_tree_is_damage(tmp_path: Path) -> None:
    with pytest.raises(Damaged):
        list(read_tree(tmp_path))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1Gi", 2**30),
        ("1G", 10**9),
        ("1.5Ki", 1536),
        ("100m", 1),
        ("1e3", 1000),
        ("12E", 12 * 10**18),
        ("512", 512),
        (512, 512),
        ("", None),
        (None, None),
        ("many", None),
        ("1Xi", None),
    ],
)
def test_quantities(text: object, expected: int | None) -> None:
    assert parse_bytes(text) == expected
