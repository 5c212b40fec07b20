"""The gate of a pod as its container: the real program, run again where it is killed.

Decision: a process with the arguments that the controller gives it, below the kubelet's directory.
What the kubelet would say of it stands in the pod's status.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys

from agent import wait
from ararat import gate
from tests.component.agent.world import World
from tests.containers import ended_state


class GateContainer:
    """``run`` returns with the code of the end that counts."""

    def __init__(self, world: World, pod: str, uid: str, *, restore_uid: str) -> None:
        self._world = world
        self._pod = pod
        arguments = gate.arguments(restore="back", restore_uid=restore_uid, volumes=["data"])
        self._command = [
            sys.executable, "-I", "-S", wait.__file__, *arguments,
            "--directory", str(world.kubelet.gate(uid)),
        ]  # fmt: skip
        self._process: asyncio.subprocess.Process | None = None
        self._log = world.path / f"gate-{uid}.log"

    async def run(self) -> int:
        try:
            while (code := await self._once()) == -signal.SIGKILL:
                await self._world.gate_state(self._pod, ended_state(128 + signal.SIGKILL))
                now = ended_state()["terminated"]["startedAt"]
                await self._world.gate_state(self._pod, {"running": {"startedAt": now}})
            return code
        finally:
            self.kill()
            self._log.unlink(missing_ok=True)

    async def _once(self) -> int:
        with self._log.open("wb") as log:
            process = await asyncio.create_subprocess_exec(*self._command, stdout=log)
        self._process = process
        return await process.wait()

    def said(self) -> str:
        """The log of the container as it runs now, not of the ones before it."""
        return "" if self._process is None else self._log.read_text()

    def kill(self) -> bool:
        """Whether there was something to kill."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return False
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        return True
