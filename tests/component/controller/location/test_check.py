"""``python -m controller check-location``, as the CLI runs it in the controller's container."""

from __future__ import annotations

import json
import os
import shutil
import sys
from asyncio import create_subprocess_exec, subprocess
from typing import Any

from tests.cluster.apiserver import ControlPlane
from tests.component.controller.backup.world import World


async def check(
    world: World, plane: ControlPlane, name: str
) -> tuple[int, list[dict[str, Any]], str]:
    child = await create_subprocess_exec(
        sys.executable,
        *("-m", "controller", "check-location", name),
        env={
            **os.environ,
            "KUBECONFIG": str(plane.kubeconfig),
            "ARARAT_NAMESPACE": world.namespace,
            "ARARAT_GATE_IMAGE": "agent:test",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await child.communicate()
    assert child.returncode is not None
    return child.returncode, [json.loads(line) for line in out.splitlines()], err.decode()


async def test_a_location_is_tried_out_whatever_its_phase(
    world: World, control_plane: ControlPlane
) -> None:
    code, steps, _ = await check(world, control_plane, "main")
    assert code == 0
    found = {step["name"]: step for step in steps}
    assert {step["ok"] for step in steps if step["name"] != "identity"} == {True}
    assert "no location.json yet" in found["identity"]["detail"]
    assert "through Ararat's server to filesystem" in found["restic"]["detail"]
    assert not [name for name in world.files() if name.startswith("probes/")]
    shutil.rmtree(world.store_path)
    code, steps, _ = await check(world, control_plane, "main")
    assert (code, steps[0]["ok"]) == (0, False)
    assert steps[0]["detail"].startswith("ContainerNotFound: ")


async def test_one_that_does_not_exist(world: World, control_plane: ControlPlane) -> None:
    code, steps, said = await check(world, control_plane, "other")
    assert (code, steps) == (1, [])
    assert said.splitlines()[-1].startswith("error: there is no BackupLocation 'other'")
