"""Puts the agent together and takes it apart again.

Order of start: API, watches, health; then jobs and gates, once no other agent runs on the node.
Order of end, on SIGTERM: nothing new starts, running jobs are handed back (their restic is asked to
end, which removes its lock), then watches, stores and the connection to the API. All of it within
the pod's grace period.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Coroutine
from typing import Any

import structlog
from prometheus_client import REGISTRY, CollectorRegistry

from ararat import health, memory
from ararat.api import PodVolumeBackup, PodVolumeRestore, Resource
from ararat.api.names import NODE
from ararat.api.nodejob import JobPhase
from ararat.errors import AraratError
from ararat.kube.api import KubeApi
from ararat.kube.events import EventRecorder
from ararat.kube.informer import Informer
from ararat.kube.resources import PODS, of
from ararat.naming import label_value
from ararat.process import landlock_abi
from ararat.restic.session import open_repository
from ararat.restic.version import find_restic

from .book import JobBook, trim_pod
from .cache import CacheKeeper
from .config import AgentConfig
from .context import AgentContext, OpenRepository
from .events import JobEvents
from .gatekeeper import Gatekeeper
from .leaders import Leaders
from .locations import Locations
from .metrics import AgentMetrics
from .node_lock import NodeLock
from .progress import ProgressMeter
from .scheduler import Scheduler, kind_of

_log = structlog.get_logger(__name__)

_REST_SECONDS = 30.0


class Agent:
    """One node's agent; ``run`` returns after ``stop``."""

    def __init__(
        self,
        config: AgentConfig,
        api: KubeApi,
        *,
        registry: CollectorRegistry = REGISTRY,
        engine: OpenRepository = open_repository,
    ) -> None:
        self.config = config
        self._api = api
        self._stopping = asyncio.Event()
        self._metrics = AgentMetrics(registry)
        self._locations = Locations(api, namespace=config.namespace, node=config.node)
        self._backups = self._job_informer(PodVolumeBackup)
        self._restores = self._job_informer(PodVolumeRestore)
        self._pods = Informer(
            api, PODS, fields=f"spec.nodeName={config.node}", transform=trim_pod, cached=True
        )
        self.book = JobBook(backups=self._backups, restores=self._restores, pods=self._pods)
        self._leaders = Leaders(api, self.book, namespace=config.namespace, changed=self._changed)
        self.gatekeeper = Gatekeeper(config, self.book, self._metrics, meter=self._meter)
        self._node_lock = NodeLock(config)
        self.scheduler = Scheduler(
            AgentContext(
                config=config,
                api=api,
                locations=self._locations,
                open_repository=engine,
                restic_ended=self._metrics.restic_ended,
                node_lock=lambda: self._node_lock.identity,
            ),
            self.book,
            leaders=self._leaders,
            metrics=self._metrics,
            events=JobEvents(EventRecorder(api, component="ararat-agent", instance=config.node)),
            settled=self.gatekeeper.poke,
        )
        self._cache = CacheKeeper(
            config,
            self._metrics,
            oldest_start=self.scheduler.oldest_start,
            ended=lambda: self.scheduler.ended,
        )
        for informer in self._informers:
            informer.on_change(lambda *_: self._changed())

    @property
    def _informers(self) -> tuple[Informer, ...]:
        return (self._backups, self._restores, self._pods)

    def stop(self) -> None:
        """Asks for an orderly end; safe to call from a signal handler of the loop."""
        self._stopping.set()

    async def run(self, *, serve: bool = True) -> None:
        self.config.cache_dir.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.config.session_dir, ignore_errors=True)
        self.config.session_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._introduce()
        work: list[Coroutine[Any, Any, None]] = [
            *(informer.run() for informer in self._informers),
            self._work_when_synced(),
        ]
        if serve:
            work.append(health.serve(self.config.port, ready=self.ready, alive=self.alive))
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(coroutine) for coroutine in work]
                await self._stopping.wait()
                _log.info("agent.stopping")
                await self.scheduler.drain(self.config.shutdown_seconds)
                for task in tasks:
                    task.cancel()
        finally:
            await self._locations.close()
            shutil.rmtree(self.config.session_dir, ignore_errors=True)
            # Last: whoever has it next takes this agent for ended.
            self._node_lock.release()
        _log.info("agent.stopped")

    async def _introduce(self) -> None:
        """Says what this agent stands on, and what is wrong with it."""
        version = landlock_abi()
        self._metrics.confined.set(version)
        if version == 0:
            _log.warning(
                "agent.not_confined",
                meaning="this kernel has no Landlock: a pod that swaps directories for links while "
                "it is backed up could lead restic outside its volume",
            )
        try:
            binary = await find_restic()
            self._metrics.restic.info({"version": binary.version_text})
            found = binary.version_text
        except AraratError as error:
            found = error.message  # each job asks again
        _log.info(
            "agent.started",
            node=self.config.node,
            kubelet=str(self.config.kubelet_dir),
            concurrency=self.config.concurrency,
            landlock=version,
            restic=found,
        )

    def ready(self) -> str | None:
        """None, or why this agent should get no work."""
        if self._stopping.is_set():
            return "shutting down"
        if not self.book.synced:
            return "the API server has not been read yet"
        return self._kubelet_trouble() or self._node_lock.trouble or self.scheduler.trouble

    def alive(self) -> str | None:
        silent = [i.silence() for i in self._informers if i.has_synced]
        if silent and min(silent) > self.config.silence_seconds:
            return f"no word from the API server for {min(silent):.0f} s"
        return None

    async def _work_when_synced(self) -> None:
        for informer in self._informers:
            await informer.synced()
        self._recall()
        memory.give_back()
        trouble = self._kubelet_trouble()
        if trouble is not None:
            _log.error("agent.kubelet_directory", problem=trouble)
        await self._node_lock.acquire()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.scheduler.run())
            group.create_task(self.gatekeeper.run())
            group.create_task(self._leaders.run())
            group.create_task(self._cache.run())
            group.create_task(self._rest())

    async def _rest(self) -> None:
        """After work, what it had of memory goes back to the node."""
        done = self.scheduler.ended
        while True:
            await asyncio.sleep(_REST_SECONDS)
            if self.scheduler.ended != done and self.scheduler.oldest_start() is None:
                done = self.scheduler.ended
                memory.give_back()

    def _recall(self) -> None:
        """When jobs last completed here: an agent that was just replaced has not forgotten it."""
        for entry in self.book.entries():
            status = entry.job.status
            if status.phase is JobPhase.COMPLETED and status.completion_time is not None:
                self._metrics.succeeded(
                    kind=kind_of(entry.job).value, at=status.completion_time.timestamp()
                )

    def _changed(self) -> None:
        self.scheduler.poke()
        self.gatekeeper.poke()

    def _meter(self, uid: str) -> ProgressMeter | None:
        return self.scheduler.meter(uid)

    def _job_informer(self, kind: type[Resource[Any, Any]]) -> Informer:
        return Informer(
            self._api,
            of(kind),
            namespace=self.config.namespace,
            labels=f"{NODE}={label_value(self.config.node)}",
            cached=True,
        )

    def _kubelet_trouble(self) -> str | None:
        """A wrong kubelet directory is said at once, not by jobs that fail later."""
        problem = _missing_pods(self.config, [str(p["metadata"]["uid"]) for p in self._running()])
        self._metrics.kubelet.set(problem is None)
        return problem

    def _running(self) -> list[dict[str, Any]]:
        return [p for p in self.book.pods() if p.get("status", {}).get("phase") == "Running"]


def _missing_pods(config: AgentConfig, running: list[str]) -> str | None:
    root = config.kubelet_dir / "pods"
    if not running or any((root / uid).is_dir() for uid in running):
        return None
    return (
        f"None of the {len(running)} pods running on {config.node} has a directory in {root}: is "
        "the kubelet's root elsewhere on this node (chart value agent.kubeletDir)?"
    )
