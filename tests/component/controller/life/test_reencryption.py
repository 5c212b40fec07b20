"""After a leak: everything is stored under other inner keys, by real jobs, while backups go on."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from datetime import timedelta

import pytest

from ararat import keys, layout
from ararat.api import Repository
from ararat.api.names import KEY_REENCRYPT
from ararat.kube import of
from ararat.kube.resources import NAMESPACES, SECRETS
from ararat.layout import CurrentFile, FollowingFile
from ararat.restic import keyfile
from ararat.restic.crypt import Keys
from ararat.restic.models import Access, RestoreRequest
from controller.keys import NEXT_FIELD, KeyRing, MasterKey, encoded
from controller.repository import rotation
from controller.repository.rotation import KeyRotation
from tests.cluster.apiserver import ControlPlane
from tests.component.controller.backup.world import Volume, World, eventually
from tests.component.controller.life.node import node_of
from tests.component.controller.life.test_maintenance import PATIENCE, maintained
from tests.component.controller.life.time_machine import Clock, nudge, repository

REPOSITORIES = of(Repository)
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "LOOK_SECONDS", 0.3)
    monkeypatch.setattr(KeyRotation, "settle", timedelta(seconds=1))


def of_all_repositories(world: World, name: str) -> dict[str, bytes]:
    """A file of each repository's folder, by the folder's name. What is in the folders comes and
    goes meanwhile, so that they are not walked."""
    root, found = world.store_path / "repositories", {}
    for path in [root / "objects" / name, *sorted(root.glob(f"volumes/*/{name}"))]:
        with contextlib.suppress(FileNotFoundError):
            found[path.parent.name] = path.read_bytes()
    return found


def following(world: World) -> list[FollowingFile]:
    return [FollowingFile.decode(data) for data in of_all_repositories(world, "next.json").values()]


def currents(world: World) -> dict[str, CurrentFile]:
    """By folder."""
    found = of_all_repositories(world, "current.json")
    return {folder: CurrentFile.decode(data) for folder, data in found.items()}


async def ring(world: World) -> KeyRing:
    found = await MasterKey(world.api, namespace=world.config.keys_namespace).ring()
    assert found is not None
    return found


async def inner_keys(world: World, directory: str) -> Keys:
    """Unwrapped from the only key file."""
    (path,) = (world.store_path / directory / "keys").iterdir()
    password = await world.password(layout.repository_name(directory))
    return keyfile.unwrap(path.read_bytes(), password=password)


async def until(world: World, clock: Clock, fits: Callable[[], bool], *, what: str) -> None:
    """Once files are as wanted; what a moved clock does not announce is announced."""
    nudged = 0.0

    async def look() -> bool:
        nonlocal nudged
        now = asyncio.get_running_loop().time()
        if now - nudged > 2:
            nudged = now
            for repo in await world.repositories():
                await nudge(world, REPOSITORIES, repo.name, clock)
        return fits()

    try:
        await eventually(look, what=what, within=PATIENCE)
    except AssertionError as error:
        error.add_note((await ring(world)).message)
        raise


async def test_everything_is_encrypted_anew(world: World, control_plane: ControlPlane) -> None:
    clock = Clock(world)
    maintained(world, control_plane)
    other = f"{world.workload}-b"
    await world.api.create(NAMESPACES, {"metadata": {"name": other}})
    await world.claim("files", namespace=other)
    await world.pod("pod-files", claims={"data": "files"}, asked="data", namespace=other)
    files = secrets.token_bytes(300_000)
    world.volumes["pod-files"] = Volume({"file": files, "empty": b""})
    await world.workload_of("db")
    both = {"includedNamespaces": [world.workload, other]}
    stored: dict[str, bytes] = {}

    async def backup(name: str, *, hold: asyncio.Event | None = None) -> None:
        stored[name] = secrets.token_bytes(200_000) + b"same" * 50_000
        world.volumes["pod-db"] = Volume({"file": stored[name]}, hold=hold)
        await world.backup(name, **both)
        if hold is None:
            await world.phase("Completed", name=name, within=PATIENCE)

    async with world.running(), node_of(world) as node:
        await backup("one")
        await backup("two")
        former = {folder: one.directory for folder, one in currents(world).items()}
        assert set(former) == {"objects", world.workload, other}
        leaked = {d: await inner_keys(world, d) for d in former.values()}

        node.start.clear()
        new = keys.new_master_key()
        patch = {
            "metadata": {"annotations": {KEY_REENCRYPT: clock.now.isoformat()}},
            "data": {NEXT_FIELD: encoded(new)},
        }
        namespace = world.config.keys_namespace
        await world.api.patch(SECRETS, "master-key", patch, namespace=namespace)
        await until(world, clock, lambda: bool(node.pods), what="the first copy is begun")

        # A backup is not kept waiting by that, and ends when its repository is left already.
        hold = asyncio.Event()
        await backup("three", hold=hold)

        async def reading() -> bool:
            uid = (await world.get("three")).uid
            jobs = [job for job in await world.jobs() if job.spec.backup_uid == uid]
            return any(job.status.phase == "InProgress" for job in jobs)

        await eventually(reading, what="the third backup reads its volumes")
        node.start.set()
        await until(
            world,
            clock,
            lambda: {c.made_under for c in currents(world).values()} == {keys.fingerprint(new)},
            what="what begins now is stored in the successors",
        )
        assert len(following(world)) == 3
        hold.set()
        await world.phase("Completed", name="three", within=PATIENCE)
        await backup("four")
        await until(
            world,
            clock,
            lambda: all(one.released_at for one in following(world)),
            what="no manifest names what is left",
        )
        successors = {folder: one.directory for folder, one in currents(world).items()}
        assert not set(successors.values()) & set(former.values())
        for name in stored:
            manifest = await world.manifest(name)  # signed by the new key alone
            named = {one.directory for one in manifest.repositories}
            assert named == set(successors.values()), name
        # Readers elsewhere have a day.
        for directory in former.values():
            assert (world.store_path / directory / "config").exists()

        async def said() -> bool:
            return "is kept until" in (await ring(world)).message

        await eventually(said, what="it says until when it waits")
        damaged = [r.name for r in await world.repositories() if r.status.phase != "Ready"]
        assert damaged == []

        clock.move(hours=25)
        await until(world, clock, lambda: not following(world), what="what was left is removed")

        async def ended() -> bool:
            return not (await ring(world)).reencrypt

        await eventually(ended, what="the Secret says that it is done")
        assert "formerManifestKeys" not in world.location_file()

    # Nothing runs any more: what stands there is whole, and what was left is gone.
    for directory in former.values():
        assert not [one for one in (world.store_path / directory).rglob("*") if one.is_file()]
    for directory in successors.values():
        assert await inner_keys(world, directory) not in leaked.values()
        async with repository(world, directory, Access.READ_ONLY) as restic:
            assert (await restic.check(read_data_subset="100%")).ok
    for name, content in stored.items():
        manifest = await world.manifest(name)
        volumes = {v.pod: v for v in manifest.volumes if v.snapshot_id}
        assert set(volumes) == {"pod-db", "pod-files"}
        for pod, expected in (("pod-db", content), ("pod-files", files)):
            target = world.path / "back" / name / pod
            target.mkdir(parents=True)
            async with repository(world, volumes[pod].directory, Access.READ_ONLY) as restic:
                wanted = volumes[pod].snapshot_id or ""
                await restic.restore(RestoreRequest(snapshot_id=wanted, target=target))
            assert (target / "file").read_bytes() == expected
    copied = [task for task in node.ran if task["action"] == "Reencrypt"]
    assert len(copied) >= 3
