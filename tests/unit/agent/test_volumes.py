"""Where each type of volume is, and which are refused."""

from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from agent.volumes import CSI, UnsupportedVolume, claim_name, locate


def pod(volume: dict[str, Any] | None, *, mounted: bool = True, key: str = "containers"):
    return {
        "metadata": {"namespace": "web", "name": "db-0", "uid": "u-1"},
        "spec": {
            "volumes": [{"name": "data", **volume}] if volume is not None else [],
            key: [{"name": "c", "volumeMounts": [{"name": "data"}] if mounted else []}],
        },
    }


CLAIMED = {"persistentVolumeClaim": {"claimName": "data-db-0"}}


def located(source: dict[str, Any], *, mode: str | None = None, claim_mode: str | None = None):
    spec = {**source, **({"volumeMode": mode} if mode else {})}
    claim = {"metadata": {"name": "data-db-0"}, "spec": {"volumeMode": claim_mode}}
    return locate(
        pod(CLAIMED),
        "data",
        claim=claim,
        persistent_volume={"metadata": {"name": "pvc-1"}, "spec": spec},
    )


@pytest.mark.parametrize(
    ("source", "places"),
    [
        ({"csi": {"driver": "disk.csi.azure.com"}}, [(CSI, "pvc-1", "mount")]),
        ({"local": {"path": "/x"}}, [("kubernetes.io~local-volume", "pvc-1")]),
        ({"nfs": {"server": "s"}}, [("kubernetes.io~nfs", "pvc-1")]),
        (
            {"azureDisk": {}},
            [("kubernetes.io~azure-disk", "pvc-1"), (CSI, "pvc-1", "mount")],
        ),
        (
            {"azureFile": {}},
            [("kubernetes.io~azure-file", "pvc-1"), (CSI, "pvc-1", "mount")],
        ),
        ({"flexVolume": {"driver": "acme/disk"}}, [("acme~disk", "pvc-1")]),
    ],
)
def test_claims(source: dict[str, Any], places: list[tuple[str, ...]]):
    found = located(source)
    assert list(found.places) == places
    assert found.mounted


@pytest.mark.parametrize(
    ("source", "modes", "reason"),
    [
        ({"hostPath": {"path": "/x"}}, {}, "HostPath"),
        ({"csi": {}}, {"mode": "Block"}, "BlockMode"),
        ({"csi": {}}, {"claim_mode": "Block"}, "BlockMode"),
        ({"unheardOf": {}}, {}, "UnsupportedVolume"),
    ],
)
def test_refused_claims(source: dict[str, Any], modes: dict[str, str], reason: str):
    with pytest.raises(UnsupportedVolume) as raised:
        located(source, **modes)
    assert raised.value.reason == reason


def test_a_claim_that_is_not_bound():
    with pytest.raises(UnsupportedVolume) as raised:
        locate(pod(CLAIMED), "data")
    assert raised.value.reason == "ClaimNotBound"


def test_empty_dir_on_disk_is_no_mount_point():
    found = locate(pod({"emptyDir": {}}), "data")
    assert found.places == (("kubernetes.io~empty-dir", "data"),)
    assert not found.mounted
    assert found.fstype is None


def test_empty_dir_in_memory_is_tmpfs():
    found = locate(pod({"emptyDir": {"medium": "Memory"}}), "data")
    assert found.mounted
    assert found.fstype == "tmpfs"


def test_a_volume_without_a_type_is_an_empty_dir():
    assert locate(pod({}), "data").kind == "emptyDir"


def test_inline_types_use_the_volumes_own_name():
    assert locate(pod({"nfs": {"server": "s"}}), "data").places == (("kubernetes.io~nfs", "data"),)
    assert locate(pod({"csi": {"driver": "d"}}), "data").places == ((CSI, "data", "mount"),)


@pytest.mark.parametrize(
    ("volume", "reason"),
    [
        ({"secret": {}}, "UnsupportedVolume"),
        ({"configMap": {}}, "UnsupportedVolume"),
        ({"projected": {}}, "UnsupportedVolume"),
        ({"downwardAPI": {}}, "UnsupportedVolume"),
        ({"emptyDir": {"medium": "HugePages-2Mi"}}, "UnsupportedVolume"),
        ({"hostPath": {"path": "/"}}, "HostPath"),
        ({"unheardOf": {}}, "UnsupportedVolume"),
        (None, "NoSuchVolume"),
    ],
)
def test_refused_volumes(volume: dict[str, Any] | None, reason: str):
    with pytest.raises(UnsupportedVolume) as raised:
        locate(pod(volume), "data")
    assert raised.value.reason == reason
    assert "web/db-0" in raised.value.message


@pytest.mark.parametrize(
    ("path", "places"),
    [
        ("/srv/data/db-0", ("db-0",)),
        ("/srv/data", ()),
        ("/srv/data/a/b/", ("a", "b")),
        ("/srv/database", None),
        ("/srv", None),
        ("/srv/data/../../etc", None),
        ("/", None),
        ("", None),
    ],
)
def test_directories_of_the_node_are_used_where_the_administrator_listed_them(
    path: str, places: tuple[str, ...] | None
):
    allowed = [PurePosixPath("/srv/data"), PurePosixPath("/opt")]
    claim = {"metadata": {"name": "data-db-0"}, "spec": {}}
    pv = {"metadata": {"name": "pvc-1"}, "spec": {"hostPath": {"path": path}}}

    def inline():
        return locate(pod({"hostPath": {"path": path}}), "data", host_paths=allowed)

    def claimed():
        return locate(pod(CLAIMED), "data", claim=claim, persistent_volume=pv, host_paths=allowed)

    for found in (inline, claimed):
        if places is None:
            with pytest.raises(UnsupportedVolume, match=r"agent\.hostPaths") as raised:
                found()
            assert raised.value.reason == "HostPath"
        else:
            source = found()
            assert (source.places, source.below) == ((places,), Path("/srv/data"))


def test_the_kubelet_does_not_mount_what_no_container_uses():
    with pytest.raises(UnsupportedVolume) as raised:
        locate(pod({"emptyDir": {}}, mounted=False), "data")
    assert raised.value.reason == "VolumeNotUsed"


@pytest.mark.parametrize("key", ["initContainers", "ephemeralContainers"])
def test_any_kind_of_container_counts(key: str):
    assert locate(pod({"emptyDir": {}}, key=key), "data").kind == "emptyDir"


def test_generic_ephemeral_volumes_have_a_claim_named_after_the_pod():
    assert claim_name(pod({"ephemeral": {"volumeClaimTemplate": {}}}), "data") == "db-0-data"
    assert claim_name(pod(CLAIMED), "data") == "data-db-0"
    assert claim_name(pod({"emptyDir": {}}), "data") is None
