from __future__ import annotations

from pathlib import Path

import pytest

from ararat.errors import InvalidSpec
from controller.config import Config

LEAST = {"ARARAT_GATE_IMAGE": "agent:1"}


def test_defaults() -> None:
    assert Config.from_env(LEAST) == Config(
        namespace="ararat",
        keys_namespace="ararat-keys",
        pod_name="controller",
        pod_uid="",
        gate_image="agent:1",
        gate_pull_policy="IfNotPresent",
        spool_dir=Path("/spool"),
        cache_dir=Path("/cache"),
        scratch_dir=Path("/tmp"),
        port=8080,
        webhook_service="",
        webhook_port=9443,
        log_level="info",
        log_json=True,
        metrics_per_claim=False,
    )


def test_everything_can_be_set() -> None:
    env = {
        "ARARAT_NAMESPACE": "backup",
        "POD_NAME": "c-1",
        "POD_UID": "u-1",
        "ARARAT_GATE_IMAGE": "agent:1",
        "ARARAT_GATE_PULL_POLICY": "Always",
        "ARARAT_SPOOL_DIR": "/a",
        "ARARAT_CACHE_DIR": "/b",
        "ARARAT_SCRATCH_DIR": "/c",
        "ARARAT_PORT": "1",
        "ARARAT_WEBHOOK_SERVICE": "ararat-webhook",
        "ARARAT_WEBHOOK_PORT": "65535",
        "ARARAT_LOG_LEVEL": "debug",
        "ARARAT_LOG_FORMAT": "text",
    }
    config = Config.from_env(env)
    assert config == Config(
        namespace="backup",
        keys_namespace="backup-keys",
        pod_name="c-1",
        pod_uid="u-1",
        gate_image="agent:1",
        gate_pull_policy="Always",
        spool_dir=Path("/a"),
        cache_dir=Path("/b"),
        scratch_dir=Path("/c"),
        port=1,
        webhook_service="ararat-webhook",
        webhook_port=65535,
        log_level="debug",
        log_json=False,
        metrics_per_claim=False,
    )
    listed = Config.from_env({**env, "ARARAT_HOST_PATHS": "/srv:/opt/x"}).host_paths
    assert [str(path) for path in listed] == ["/srv", "/opt/x"]
    assert Config.from_env({**env, "ARARAT_KEYS_NAMESPACE": "k"}).keys_namespace == "k"


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({}, "ARARAT_GATE_IMAGE"),
        ({**LEAST, "ARARAT_PORT": "http"}, "ARARAT_PORT"),
        ({**LEAST, "ARARAT_HOST_PATHS": "/"}, "ARARAT_HOST_PATHS"),
        ({**LEAST, "ARARAT_PORT": "0"}, "ARARAT_PORT"),
        ({**LEAST, "ARARAT_PORT": "65536"}, "ARARAT_PORT"),
        ({**LEAST, "ARARAT_WEBHOOK_PORT": "²"}, "ARARAT_WEBHOOK_PORT"),
        ({**LEAST, "ARARAT_WEBHOOK_PORT": "-1"}, "ARARAT_WEBHOOK_PORT"),
    ],
)
def test_what_is_wrong_is_named(env: dict[str, str], named: str) -> None:
    with pytest.raises(InvalidSpec, match=named):
        Config.from_env(env)
