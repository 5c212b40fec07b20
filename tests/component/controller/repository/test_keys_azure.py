"""Rotation and re-encryption in Blob Storage, by controllers that die all the time."""

from __future__ import annotations

from pathlib import Path

import pytest

from ararat import keys
from ararat.api.names import KEY_REENCRYPT
from ararat.kube import KubeClient
from ararat.kube.resources import SECRETS
from tests.cluster.azurite import Azurite
from tests.component.controller.backup.blob_world import BlobWorld
from tests.component.controller.backup.world import Volume
from tests.component.controller.life.mortal import Life
from tests.component.controller.life.time_machine import Clock

from .test_reencryption_kills import BACKUPS, Scene, impatient
from .test_rotation_kills import check_usable, opened_with, ring, rotate, set_ring

__all__ = ["impatient"]


@pytest.mark.timeout(300)
async def test_a_key_that_leaked_is_changed_in_blob_storage(
    api: KubeClient, work: Path, tmp_path: Path
) -> None:
    """Each life ends after a few writes more; the last of them is made, and its answer is lost."""
    with Azurite(directory=tmp_path, memory=True) as azurite:
        world = BlobWorld(api, work, azurite=azurite, container="backups")
        await world.prepare()
        await world.workload_of("db")
        async with world.running():
            for name, content in BACKUPS.items():
                world.volumes["pod-db"] = Volume({"file": content})
                await world.backup(name)
                await world.phase("Completed", name=name)
                await world.settled(name)
        old, new = await world.master(), keys.new_master_key()
        directories = [one.directory for one in (await world.manifest("two")).repositories]
        assert len(directories) == 2
        await set_ring(world, key=old, wanted=new)
        patch = {"metadata": {"annotations": {KEY_REENCRYPT: "2026-11-23T08:00:00+00:00"}}}
        namespace = world.config.keys_namespace
        await world.api.patch(SECRETS, "master-key", patch, namespace=namespace)

        # Re-wrapped: with what the Secret calls the key everything opens, after every death.
        deaths = 0
        while (found := await ring(world)).next or found.former:
            life = await rotate(world, Life(at=3 + deaths, after=True))
            deaths += life.dead
            await check_usable(world, directories)
        assert deaths >= 2
        scene = Scene(world, Clock(world), new)
        assert not any(opened_with(world, directory, old) for directory in directories)
        former = {directory: scene.inner_keys(directory) for directory in directories}

        # Encrypted anew: whatever a backup names is there, after every death.
        rewrapped = deaths
        while (await ring(world)).reencrypt:
            life = Life(at=5 + 2 * (deaths - rewrapped), after=True)
            said = await scene.live(life)
            scene.check_whole()
            deaths += life.dead
            if not life.dead and "is kept until" in said:
                scene.clock.move(hours=25)
        assert deaths - rewrapped >= 4
        await scene.check_ended(former)
        assert list(world.store_path.iterdir()) == []  # nothing went to the directory
        await world.close()
