"""The environment, and one clear sentence per bad value."""

from pathlib import Path

import pytest

from agent.config import from_environment
from ararat.errors import InvalidSpec


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        "NODE_NAME": "n1",
        "POD_NAME": "agent-x",
        "POD_UID": "u-1",
        "ARARAT_KUBELET_DIR": str(tmp_path),
    }


def test_defaults(environment: dict[str, str]):
    config = from_environment(environment)
    assert config.node == "n1"
    assert config.namespace == "ararat"
    assert config.concurrency == 2
    assert config.cache_dir == Path("/var/cache/ararat")
    assert config.port == 8080


def test_what_is_set_for_restic(environment: dict[str, str]):
    assert from_environment(environment).io_priority is None
    environment |= {
        "ARARAT_BANDWIDTH_KIB": "1024",
        "ARARAT_OUTAGE_SECONDS": "300",
        "ARARAT_NICENESS": "19",
        "ARARAT_IO_PRIORITY": "idle",
        "ARARAT_HOST_PATHS": "/srv:/var/lib/rancher/k3s/storage",
    }
    config = from_environment(environment)
    assert config.bandwidth_bytes == 1 << 20
    assert config.outage_seconds == 300
    assert (config.niceness, config.io_priority) == (19, "idle")
    assert [str(path) for path in config.host_paths] == ["/srv", "/var/lib/rancher/k3s/storage"]


def test_the_kubelets_root_is_resolved(environment: dict[str, str], tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    environment["ARARAT_KUBELET_DIR"] = str(tmp_path / "link")
    assert from_environment(environment).kubelet_dir == (tmp_path / "real").resolve()


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("NODE_NAME", "", "NODE_NAME is not set"),
        ("POD_UID", " ", "POD_UID is not set"),
        ("ARARAT_NAMESPACE", "Not A Name", "ARARAT_NAMESPACE is no namespace's name"),
        ("ARARAT_CONCURRENCY", "many", "must be a whole number, not 'many'"),
        ("ARARAT_CONCURRENCY", "0", "must be between 1 and 64, not 0"),
        ("ARARAT_KUBELET_DIR", "/no/such/place", "not a directory in this container"),
        ("ARARAT_CACHE_DIR", "relative", "must be an absolute path"),
        ("ARARAT_LOG_LEVEL", "loud", "must be one of"),
        ("ARARAT_BANDWIDTH_KIB", "255", "must be 0 .no limit. or at least 256, not 255"),
        ("ARARAT_NICENESS", "-1", "must be between 0 and 19, not -1"),
        ("ARARAT_IO_PRIORITY", "high", "must be one of normal, low, idle"),
        ("ARARAT_HOST_PATHS", "/srv:/", "must list directories below /, not /"),
        ("ARARAT_HOST_PATHS", "srv", "must list directories below /, not srv"),
        ("ARARAT_HOST_PATHS", "/srv/../etc", "must list directories below /"),
    ],
)
def test_bad_values(environment: dict[str, str], name: str, value: str, sentence: str):
    environment[name] = value
    with pytest.raises(InvalidSpec, match=sentence) as raised:
        from_environment(environment)
    assert name in raised.value.message
    assert raised.value.message.count("\n") == 0
