"""The agent of a world's node as it is: its program, real restic, volumes that are mounts.

Decision: what a kubelet would leave on the node is made by the agent's own tests' world, put onto
the namespaces of the controller's. A volume that cannot be read is one that is not mounted. The
program is killed as the kernel kills it, with its restic, and started again as a kubelet does.
Limits: needs root, for mounts. Restores are the agent's jobs without the controller's part; the
pods they fill are objects that stand at their gates.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from ararat import layout
from ararat.api import PodVolumeRestore
from ararat.api.manifest import ManifestVolume
from ararat.kube.resources import PODS
from tests.component.agent.program import Program
from tests.component.agent.walker import Tree, walk
from tests.component.agent.world import World as AgentWorld
from tests.component.controller.backup.world import World, eventually


@dataclass
class RealAgent:
    world: World
    node: AgentWorld
    program: Program
    log: Path
    kills: int = 0
    #: Pods whose volume cannot be read.
    unmounted: set[str] = field(default_factory=set)
    _places: dict[str, Path] = field(default_factory=dict)

    async def adopt(self) -> None:
        """Every pod that runs gets its directories, and its volume is mounted there."""
        async for pod in self.world.api.list(PODS, namespace=self.world.workload):
            name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
            (claim,) = [v["persistentVolumeClaim"]["claimName"] for v in pod["spec"]["volumes"]]
            (self.node.kubelet.root / "pods" / uid).mkdir()
            self._places[name] = self.node.kubelet.csi(uid, self.node.pv(claim))

    def volume(self, pod: str) -> Path:
        """The disk itself, also while it is not mounted."""
        return self.node.kubelet.disk(self._places[pod].parent.name)

    def mounted(self, pod: str, wanted: bool) -> None:
        place = self._places[pod]
        if not wanted and pod not in self.unmounted:
            self.node.kubelet.unmount(place)
            self.unmounted.add(pod)
        elif wanted and pod in self.unmounted:
            self.node.kubelet.bind(place.parent.name, place)
            self.unmounted.remove(pod)

    async def kill_when_working(self, over: asyncio.Event) -> None:
        """Once, in the middle of a restic; the next one starts at once."""
        while not self.program.children():
            if over.is_set():
                return  # too quick for us
            await asyncio.sleep(0.01)
        await self.program.end(signal.SIGKILL)
        self.kills += 1
        await self.program.start()

    async def restored(self, name: str, volume: ManifestVolume) -> Tree:
        """What the agent makes of it, in a new volume behind a gate."""
        node, world = self.node, self.world
        repository = layout.repository_name(volume.directory)
        secret = f"password-{name}"
        await node.secret(secret, await world.password(repository))
        uid = await node.pod(name, volume=await node.claim(name), gated=True)
        target = node.kubelet.csi(uid, node.pv(name))
        assert volume.root is not None
        assert volume.summary is not None
        await node.restore(
            name,
            name,
            uid,
            snapshotID=volume.snapshot_id,
            root=volume.root.to_dict(),
            expectedBytes=volume.summary.bytes_processed,
            expectedFiles=volume.summary.files_total,
            repository={
                "location": "main",
                "locationID": world.location_file()["locationID"],
                "directory": volume.directory,
                "passwordSecret": secret,
            },
        )
        await node.until(PodVolumeRestore, name, "Completed", seconds=240)

        async def opened() -> bool:
            return node.kubelet.answer(uid).get("phase") == "Completed"

        await eventually(opened, what=f"the gate of {name} is open")
        tree = await asyncio.to_thread(walk, target)
        node.kubelet.unmount(target)
        shutil.rmtree(node.kubelet.disk(node.pv(name)))
        return tree


@asynccontextmanager
async def real_agent(world: World, kubeconfig: Path) -> AsyncIterator[RealAgent]:
    place = world.path / "node"
    place.mkdir()
    node = AgentWorld(world.api, place)
    node.namespace, node.workloads, node.node = world.namespace, world.workload, world.node
    node.config = replace(node.config, node=world.node, namespace=world.namespace)
    node.repository = {}  # each restore names its own
    log = world.path / "agent.log"
    program = Program(node.config, kubeconfig=kubeconfig, log=log, mount_wait_seconds=1)
    agent = RealAgent(world, node, program, log)
    await agent.adopt()
    await program.start()
    attendant = asyncio.create_task(program.attend())
    try:
        yield agent
        attendant.cancel()
        await program.end(signal.SIGTERM)
        assert program.unasked == [], f"the agent ended by itself with {program.unasked}"
    except BaseException as error:
        if log.exists():
            error.add_note(log.read_text(errors="replace")[-20_000:])
        raise
    finally:
        attendant.cancel()
        await program.end(signal.SIGKILL)
        node.kubelet.close()
