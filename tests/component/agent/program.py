"""The agent's program as a child of a test, which kills it and starts it again.

Decision: a container's restart is a new process with the same pod UID, a pod's replacement one with
another.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from agent.config import AgentConfig


def agent_environment(config: AgentConfig, kubeconfig: Path) -> dict[str, str]:
    """What ``python -m agent`` reads its configuration from, outside a cluster."""
    return {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "NODE_NAME": config.node,
        "POD_NAME": config.pod_name,
        "POD_UID": config.pod_uid,
        "ARARAT_NAMESPACE": config.namespace,
        "ARARAT_KUBELET_DIR": str(config.kubelet_dir),
        "ARARAT_CACHE_DIR": str(config.cache_dir),
        "ARARAT_SCRATCH_DIR": str(config.scratch_dir),
        "ARARAT_PORT": "0",
        "ARARAT_MINIMUM_FREE_MIB": "0",
    }


class Program:
    """``python -m agent`` as a child, started again whenever it ends."""

    def __init__(
        self,
        config: AgentConfig,
        *,
        kubeconfig: Path,
        log: Path,
        mount_wait_seconds: int = 5,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """``settings``: variables of its environment beside those that every test has."""
        self._config = config
        self._mount_wait = mount_wait_seconds
        self._settings = settings or {}
        self._kubeconfig = kubeconfig
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self.unasked: list[int] = []
        self._asked = False
        self._pods = 0

    async def start(self) -> None:
        environment = {
            **agent_environment(self._config, self._kubeconfig),
            "ARARAT_MOUNT_WAIT_SECONDS": str(self._mount_wait),
            "ARARAT_RETRY_SECONDS": "1",
            "ARARAT_SHUTDOWN_SECONDS": "20",
            "ARARAT_LOG_LEVEL": "INFO",
            **self._settings,
        }
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "agent", env=environment, stdout=log, stderr=log
            )
        # Not before: until there is a new one, `attend` looks at the one that was ended.
        self._asked = False

    def new_pod(self, *, new_disk: bool = False) -> None:
        """The next one is the container of another pod, as where a pod was deleted by force;
        ``new_disk``: on another machine, which has the name of a node that is gone."""
        self._pods += 1
        if new_disk:
            disk = self._config.cache_dir.with_suffix(f".{self._pods}")
            self._config = replace(self._config, cache_dir=disk)
        # The old pod's emptyDir goes with it.
        for path in self._config.scratch_dir.iterdir():
            shutil.rmtree(path)
        self._config = replace(
            self._config,
            pod_name=f"{self._config.pod_name.partition('.')[0]}.{self._pods}",
            pod_uid=f"{self._config.pod_uid.partition('.')[0]}.{self._pods}",
        )

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def end(self, number: signal.Signals, *, patience: float = 60.0) -> None:
        process = self._process
        if process is None:
            return
        self._asked = True
        if process.returncode is None:
            process.send_signal(number)
        async with asyncio.timeout(patience):
            await process.wait()

    async def attend(self) -> None:
        """Starts it again, as a kubelet does; an end that nobody asked for is a defect."""
        while True:
            await asyncio.sleep(0.1)
            process = self._process
            if process is not None and process.returncode is not None and not self._asked:
                self.unasked.append(process.returncode)
                await self.start()

    def children(self) -> list[int]:
        """Its restic processes."""
        pid = self.pid
        return [] if pid is None else [p for p, parent in processes().items() if parent == pid]


def processes() -> dict[int, int]:
    """Every process and its parent."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                found[int(entry)] = int(stat[1])
    return found
