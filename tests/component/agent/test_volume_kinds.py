"""Every kind of volume where a kubelet puts it: found and read, or refused with the reason.

The mounts are real; what stands behind them is not asked by anybody, so it is a directory of ours.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ararat.api import PodVolumeBackup
from ararat.restic.models import BackupRequest, BackupResult
from tests.component.agent.engine import SNAPSHOT, FakeEngine
from tests.component.agent.world import World

#: The kubelet's name for a subPath of a volume, which is mounted a second time.
_SUB_PATHS = "volume-subpaths"


@dataclass(frozen=True)
class Kind:
    #: Of a PersistentVolume; None: the volume stands in the pod itself.
    claimed: dict[str, Any] | None
    inline: dict[str, Any] | None
    #: Below ``volumes``; the last part that is ``*`` is the PersistentVolume's name.
    place: tuple[str, ...]


NFS = {"nfs": {"server": "filer.test", "path": "/export"}}
SHARE = {"azureFile": {"secretName": "s", "shareName": "files"}}
KINDS = {
    "NFS": Kind({**NFS}, None, ("kubernetes.io~nfs", "*")),
    "NFS in the pod": Kind(None, NFS, ("kubernetes.io~nfs", "data")),
    "Azure Files": Kind(
        {"azureFile": {**SHARE["azureFile"], "secretNamespace": "default"}},
        None,
        ("kubernetes.io~azure-file", "*"),
    ),
    "Azure Files in the pod": Kind(None, SHARE, ("kubernetes.io~azure-file", "data")),
    "Azure Files by its driver": Kind(
        {"azureFile": {**SHARE["azureFile"], "secretNamespace": "default"}},
        None,
        ("kubernetes.io~csi", "*", "mount"),
    ),
    "SMB": Kind(
        {"csi": {"driver": "smb.csi.k8s.io", "volumeHandle": "share"}},
        None,
        ("kubernetes.io~csi", "*", "mount"),
    ),
    "iSCSI": Kind(
        {"iscsi": {"targetPortal": "10.0.0.1", "iqn": "iqn.2001-04.test:disk", "lun": 0}},
        None,
        ("kubernetes.io~iscsi", "*"),
    ),
}


def bound(world: World, name: str, path: Path) -> None:
    """A file system of its own there, with a file that says whose it is."""
    world.kubelet.bind(name, path)
    (path / "file").write_text(name)


async def test_every_kind_is_found_where_the_kubelet_mounts_it(
    world: World, engine: FakeEngine
) -> None:
    seen: dict[str, list[str]] = {}

    async def look(request: BackupRequest) -> BackupResult:
        assert isinstance(request.source, int)
        listing = os.listdir(request.source)
        fd = os.open("file", os.O_RDONLY, dir_fd=request.source)
        seen[os.read(fd, 100).decode()] = listing
        os.close(fd)
        return BackupResult(snapshot_id=SNAPSHOT)

    engine.on_backup = look
    expected = {}
    async with world.agent(engine, concurrency=len(KINDS)):
        for number, (title, kind) in enumerate(KINDS.items()):
            name = f"p{number}"
            volume = kind.inline
            if kind.claimed is not None:
                volume = await world.claim(name, source=kind.claimed)
            uid = await world.pod(name, volume=volume)
            parts = [world.pv(name) if part == "*" else part for part in kind.place]
            bound(world, title.replace(" ", "-"), world.kubelet.volume(uid, *parts))
            await world.backup(f"b-{name}", name, uid)
            expected[title.replace(" ", "-")] = ["file"]
        for number in range(len(KINDS)):
            await world.until(PodVolumeBackup, f"b-p{number}", "Completed", seconds=60)
    assert seen == expected


async def test_a_generic_ephemeral_volume_is_the_claim_that_was_made_for_it(
    world: World, engine: FakeEngine
) -> None:
    await world.claim("db-0-data")
    template = {
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    }
    uid = await world.pod("db-0", volume={"ephemeral": {"volumeClaimTemplate": template}})
    bound(world, "disk", world.kubelet.csi(uid, world.pv("db-0-data"), mount=False))
    async with world.agent(engine):
        await world.backup("b1", "db-0", uid, claim={"name": "db-0-data"})
        await world.until(PodVolumeBackup, "b1", "Completed")


async def test_who_uses_a_part_of_a_volume_has_all_of_it_backed_up(
    world: World, engine: FakeEngine
) -> None:
    """A subPath is a second mount of a part; the volume itself is where it always is."""
    seen: list[list[str]] = []

    async def look(request: BackupRequest) -> BackupResult:
        assert isinstance(request.source, int)
        seen.append(sorted(os.listdir(request.source)))
        return BackupResult(snapshot_id=SNAPSHOT)

    engine.on_backup = look
    mount = {"name": "data", "mountPath": "/data", "subPath": "part"}
    volume = await world.claim("db-0")
    uid = await world.pod("db-0", volume=volume, uses={"volumeMounts": [mount]})
    path = world.kubelet.csi(uid, world.pv("db-0"))
    for part in ("part", "other"):
        (path / part).mkdir()
    inner = world.kubelet.root / "pods" / uid / _SUB_PATHS / world.pv("db-0") / "app" / "0"
    inner.mkdir(parents=True)
    subprocess.run(["mount", "--bind", str(path / "part"), str(inner)], check=True)
    world.kubelet._mounted.append(inner)
    async with world.agent(engine):
        await world.backup("b1", "db-0", uid)
        await world.until(PodVolumeBackup, "b1", "Completed")
    assert seen == [["other", "part"]]


@pytest.mark.parametrize(
    ("volume", "reason"),
    [
        ({"secret": {"secretName": "s"}}, "UnsupportedVolume"),
        ({"configMap": {"name": "c"}}, "UnsupportedVolume"),
        (
            {"projected": {"sources": [{"configMap": {"name": "c"}}]}},
            "UnsupportedVolume",
        ),
        ({"downwardAPI": {"items": []}}, "UnsupportedVolume"),
        ({"hostPath": {"path": "/etc"}}, "HostPath"),
        ("block", "BlockMode"),
    ],
    ids=["secret", "configMap", "projected", "downwardAPI", "hostPath", "block"],
)
async def test_what_holds_no_files_of_the_users_is_refused(
    world: World, engine: FakeEngine, volume: Any, reason: str
) -> None:
    uses = None
    if volume == "block":
        volume = await world.claim("db-0", mode="Block")
        uses = {"volumeDevices": [{"name": "data", "devicePath": "/dev/data"}]}
    uid = await world.pod("db-0", volume=volume, uses=uses)
    async with world.agent(engine):
        await world.backup("b1", "db-0", uid)
        status = await world.until(PodVolumeBackup, "b1", "Failed")
    assert status["reason"] == reason
    assert status["attempts"] == 0
    assert engine.sessions == []
