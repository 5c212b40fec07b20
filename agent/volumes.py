"""Where on this node a pod's volume is, by its specification. Pure.

Problem: the kubelet keeps volumes at ``<root>/pods/<pod uid>/volumes/<plugin>/<name>``. The plugin
depends on what is behind the volume; the name is the PersistentVolume's for claims and the
volume's own otherwise; CSI adds ``/mount``.
Decision: plugin and name are derived from the pod's and the PersistentVolume's specification, not
globbed: an emptyDir that happens to be called like another pod's volume can never be mistaken for
it. Where a type may appear under several plugins (in-tree types that the cluster has migrated to
CSI) exactly one of them must be there. What is not a user's data (Secrets, ConfigMaps, projected
volumes), or no directory (block devices), is refused with the reason; and so is a directory of the
node (hostPath), unless it lies below one that the administrator has listed.
Limits: the directory's existence and its mount are proven elsewhere (agent/mounted.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from ararat import hostpaths
from ararat.errors import InvalidSpec

#: How a container may have a volume.
USES: Final = ("volumeMounts", "volumeDevices")
CSI: Final = "kubernetes.io~csi"
EMPTY_DIR: Final = "kubernetes.io~empty-dir"

#: In-tree types and their plugin directories.
_PLUGINS: Final[Mapping[str, str]] = {
    "awsElasticBlockStore": "kubernetes.io~aws-ebs",
    "azureDisk": "kubernetes.io~azure-disk",
    "azureFile": "kubernetes.io~azure-file",
    "cephfs": "kubernetes.io~cephfs",
    "cinder": "kubernetes.io~cinder",
    "fc": "kubernetes.io~fc",
    "gcePersistentDisk": "kubernetes.io~gce-pd",
    "glusterfs": "kubernetes.io~glusterfs",
    "iscsi": "kubernetes.io~iscsi",
    "local": "kubernetes.io~local-volume",
    "nfs": "kubernetes.io~nfs",
    "portworxVolume": "kubernetes.io~portworx-volume",
    "rbd": "kubernetes.io~rbd",
    "storageos": "kubernetes.io~storageos",
    "vsphereVolume": "kubernetes.io~vsphere-volume",
}
#: Types that a cluster may have handed over to their CSI drivers.
_MIGRATED: Final = frozenset(
    (
        "awsElasticBlockStore",
        "azureDisk",
        "azureFile",
        "cinder",
        "gcePersistentDisk",
        "portworxVolume",
        "rbd",
        "vsphereVolume",
    )
)
#: Types that hold no data of the user's.
_NOT_DATA: Final[Mapping[str, str]] = {
    "configMap": "a ConfigMap, which is backed up as an object",
    "secret": "a Secret, which is backed up as an object",
    "downwardAPI": "made by the kubelet from the pod itself",
    "projected": "made by the kubelet from other objects",
    "gitRepo": "a checkout that is made anew for each pod",
    "image": "a container image",
}


class UnsupportedVolume(InvalidSpec):
    """The volume cannot be backed up or restored as files, whatever is tried."""

    default_reason = "UnsupportedVolume"


@dataclass(frozen=True)
class VolumeSource:
    """Where a volume must be, usually below ``<kubelet>/pods/<pod uid>/volumes``."""

    kind: str
    """``persistentVolumeClaim``, ``emptyDir``, ``nfs``, …"""
    places: tuple[tuple[str, ...], ...]
    """Possible paths, of which exactly one must exist."""
    mounted: bool
    """Whether it is a mount point; only disk-backed emptyDirs are not."""
    fstype: str | None = None
    """File system it must be, where only one is right."""
    below: Path | None = None
    """The directory of the node that the places are relative to, instead of the pod's."""


def pod_volume(pod: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The volume of that name in the pod's spec. Raises UnsupportedVolume where there is none."""
    for volume in pod.get("spec", {}).get("volumes") or []:
        if volume.get("name") == name:
            found: Mapping[str, Any] = volume
            return found
    raise UnsupportedVolume(f"Pod {_pod_name(pod)} has no volume {name}.", reason="NoSuchVolume")


def used_by_a_container(pod: Mapping[str, Any], name: str) -> bool:
    """Whether any container has the volume; the kubelet does not set it up otherwise."""
    spec = pod.get("spec", {})
    return any(
        use.get("name") == name
        for kind in ("initContainers", "containers", "ephemeralContainers")
        for container in spec.get(kind) or []
        for how in USES
        for use in container.get(how) or []
    )


def claim_name(pod: Mapping[str, Any], name: str) -> str | None:
    """Claim behind the pod's volume: named, or made for a generic ephemeral volume."""
    volume = pod_volume(pod, name)
    if "persistentVolumeClaim" in volume:
        return str(volume["persistentVolumeClaim"]["claimName"])
    if "ephemeral" in volume:
        return f"{pod['metadata']['name']}-{name}"
    return None


def locate(
    pod: Mapping[str, Any],
    name: str,
    *,
    claim: Mapping[str, Any] | None = None,
    persistent_volume: Mapping[str, Any] | None = None,
    host_paths: Iterable[PurePosixPath] = (),
) -> VolumeSource:
    """Where the pod's volume must be. Raises UnsupportedVolume where files are not to be had.

    ``claim`` and ``persistent_volume`` are the live objects of a volume that ``claim_name`` names;
    ``host_paths`` are the directories of the node that may be used.
    """
    volume = pod_volume(pod, name)
    where = f"Volume {name} of pod {_pod_name(pod)}"
    if not used_by_a_container(pod, name):
        raise UnsupportedVolume(
            f"{where} is mounted by none of the pod's containers, so it is not on the node.",
            reason="VolumeNotUsed",
        )
    if claim_name(pod, name) is not None:
        if claim is None or persistent_volume is None:
            raise UnsupportedVolume(f"{where} has no bound claim.", reason="ClaimNotBound")
        return _of_claim(where, claim, persistent_volume, host_paths)
    kinds = [key for key in volume if key != "name"]
    kind = kinds[0] if kinds else "emptyDir"
    if kind in _NOT_DATA:
        raise UnsupportedVolume(f"{where} is {_NOT_DATA[kind]}.")
    if kind == "emptyDir":
        return _empty_dir(where, name, volume.get("emptyDir") or {})
    if kind == "hostPath":
        return _host_path(where, volume[kind], host_paths)
    return _of_type(where, kind=kind, source=volume[kind], name=name)


def _of_claim(
    where: str,
    claim: Mapping[str, Any],
    persistent_volume: Mapping[str, Any],
    host_paths: Iterable[PurePosixPath],
) -> VolumeSource:
    spec = persistent_volume.get("spec", {})
    pv_name = str(persistent_volume["metadata"]["name"])
    if "Block" in (spec.get("volumeMode"), claim.get("spec", {}).get("volumeMode")):
        raise UnsupportedVolume(
            f"{where} is a block device (volumeMode Block) and has no files.", reason="BlockMode"
        )
    kind = next((key for key in ("csi", "hostPath", "flexVolume", *_PLUGINS) if key in spec), None)
    if kind is None:
        raise UnsupportedVolume(
            f"{where} stands on PersistentVolume {pv_name} of a type that is not known here."
        )
    if kind == "hostPath":
        return _host_path(where, spec[kind], host_paths)
    source = _of_type(where, kind=kind, source=spec[kind], name=pv_name)
    return VolumeSource(
        kind="persistentVolumeClaim", places=source.places, mounted=True, fstype=source.fstype
    )


def _of_type(where: str, *, kind: str, source: Mapping[str, Any], name: str) -> VolumeSource:
    if kind == "csi":
        return VolumeSource(kind=kind, places=((CSI, name, "mount"),), mounted=True)
    if kind == "flexVolume":
        vendor = str(source.get("driver", "")).replace("/", "~")
        return VolumeSource(kind=kind, places=((vendor, name),), mounted=True)
    if kind not in _PLUGINS:
        raise UnsupportedVolume(f"{where} is of type {kind}, which is not known here.")
    places: list[tuple[str, ...]] = [(_PLUGINS[kind], name)]
    if kind in _MIGRATED:
        places.append((CSI, name, "mount"))
    return VolumeSource(kind=kind, places=tuple(places), mounted=True)


def _host_path(
    where: str, source: Mapping[str, Any], allowed: Iterable[PurePosixPath]
) -> VolumeSource:
    path = str(source.get("path") or "")
    prefix = hostpaths.prefix_of(path, allowed)
    if prefix is None:
        raise UnsupportedVolume(
            f"{where} is {path}, a directory of the node (hostPath) that no entry of the chart's "
            "agent.hostPaths allows.",
            reason="HostPath",
        )
    return VolumeSource(
        kind="hostPath",
        places=(PurePosixPath(path).relative_to(prefix).parts,),
        mounted=False,
        below=Path(prefix),
    )


def _empty_dir(where: str, name: str, source: Mapping[str, Any]) -> VolumeSource:
    medium = source.get("medium") or ""
    if medium.startswith("HugePages"):
        raise UnsupportedVolume(f"{where} consists of huge pages and holds no files.")
    memory = medium == "Memory"
    return VolumeSource(
        kind="emptyDir",
        places=((EMPTY_DIR, name),),
        mounted=memory,
        fstype="tmpfs" if memory else None,
    )


def _pod_name(pod: Mapping[str, Any]) -> str:
    meta = pod.get("metadata", {})
    return f"{meta.get('namespace')}/{meta.get('name')}"
