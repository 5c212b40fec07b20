from __future__ import annotations

from typing import Any

import pytest

from controller.restore.gate import GateSettings, add_gate, gated_volumes
from tests.unit.controller.restore.make import GATE, UID, pod_spec

#: Where the API server would mount a token.
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"


def gated(spec: dict[str, Any]) -> dict[str, Any]:
    pod = {"metadata": {"name": "p", "namespace": "wp"}, "spec": spec}
    add_gate(pod, ["data", "uploads"], GATE)
    return pod


def test_the_whole_pod() -> None:
    pod = gated(
        {
            "containers": [
                {
                    "name": "app",
                    "resources": {
                        "requests": {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1"},
                        "limits": {"memory": "1Gi", "nvidia.com/gpu": "1"},
                    },
                },
                {"name": "sidecar", "resources": {"requests": {"cpu": "9"}}},
            ],
            "initContainers": [{"name": "migrate"}],
            "securityContext": {"runAsUser": 1000, "fsGroup": 1000},
            "volumes": [{"name": "data", "emptyDir": {}}],
        }
    )
    assert pod == {
        "metadata": {
            "name": "p",
            "namespace": "wp",
            "labels": {"ararat.dev/restore": "r1", "ararat.dev/restore-uid": UID},
            "annotations": {
                "ararat.dev/gate-restore": "r1",
                "ararat.dev/gate-volumes": "data,uploads",
            },
        },
        "spec": {
            "containers": [
                {
                    "name": "app",
                    "resources": {
                        "requests": {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1"},
                        "limits": {"memory": "1Gi", "nvidia.com/gpu": "1"},
                    },
                },
                {"name": "sidecar", "resources": {"requests": {"cpu": "9"}}},
            ],
            "initContainers": [
                {
                    "name": "restore-wait",
                    "image": "ararat-agent:1",
                    "command": ["python3", "-I", "-S", "/usr/local/lib/ararat/wait.py"],
                    "args": [
                        "--restore",
                        "r1",
                        "--restore-uid",
                        UID,
                        "--volumes",
                        "data,uploads",
                        "--no-progress-seconds",
                        "900",
                    ],
                    "resources": {
                        "requests": {"cpu": "1", "memory": "1Gi"},
                        "limits": {"memory": "1Gi"},
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                        "privileged": False,
                        "readOnlyRootFilesystem": True,
                        "runAsNonRoot": True,
                        "runAsUser": 1000,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "volumeMounts": [
                        {"name": "ararat-gate", "mountPath": path, "readOnly": True}
                        for path in ("/ararat-gate", TOKEN_PATH)
                    ],
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                },
                {"name": "migrate"},
            ],
            "securityContext": {"runAsUser": 1000, "fsGroup": 1000},
            "volumes": [
                {"name": "data", "emptyDir": {}},
                {"name": "ararat-gate", "emptyDir": {}},
            ],
        },
    }
    assert gated_volumes(pod) == ["data", "uploads"]


def test_twice_is_once() -> None:
    once = gated(pod_spec(empty=("data",)))
    twice = gated(gated(pod_spec(empty=("data",)))["spec"])
    assert once == twice


@pytest.mark.parametrize(
    ("pod_user", "container_user", "expected"),
    [
        (None, None, 65532),
        (0, None, 65532),
        (None, 0, 65532),
        (1000, None, 1000),
        (1000, 2000, 2000),
        (1000660000, 0, 65532),
    ],
)
def test_user(pod_user: int | None, container_user: int | None, expected: int) -> None:
    spec = {
        "securityContext": {} if pod_user is None else {"runAsUser": pod_user},
        "containers": [
            {
                "name": "app",
                "securityContext": {} if container_user is None else {"runAsUser": container_user},
            }
        ],
    }
    gate = gated(spec)["spec"]["initContainers"][0]
    assert gate["securityContext"]["runAsUser"] == expected


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, {}),
        (
            {"requests": {"memory": "8Mi"}, "limits": {"memory": "8Mi"}},
            {"requests": {"memory": "32Mi"}, "limits": {"memory": "32Mi"}},
        ),
        (
            {"requests": {"memory": "4Mi"}, "limits": {"memory": "8Mi", "cpu": "100m"}},
            {"requests": {"memory": "4Mi"}, "limits": {"memory": "32Mi", "cpu": "100m"}},
        ),
    ],
)
def test_resources(resources: dict[str, Any], expected: dict[str, Any]) -> None:
    gate = gated({"containers": [{"name": "app", "resources": resources}]})["spec"]
    assert gate["initContainers"][0]["resources"] == expected


def test_settings_reach_the_container() -> None:
    pod: dict[str, Any] = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "app"}]}}
    settings = GateSettings(image="i", restore="r", restore_uid="u", pull_policy="Never")
    add_gate(pod, ["data"], settings, after="p-0")
    gate = pod["spec"]["initContainers"][0]
    assert gate["imagePullPolicy"] == "Never"
    assert gate["args"][4:6] == ["--volumes", "data,ararat-turn"]
    assert pod["metadata"]["annotations"]["ararat.dev/gate-after"] == "p-0"
