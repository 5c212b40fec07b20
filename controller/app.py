"""The controller process: one leader works, the others wait and serve webhooks.

Decision: everything that acts (informers, queues, reconcilers) lives inside the elected body, so a
follower holds no cache, and losing the Lease ends all work at once. Events wake reconcilers;
their own timers are only for deadlines that no event announces.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import structlog

from ararat.api import (
    Backup,
    BackupLocation,
    BackupVerification,
    DeleteBackupRequest,
    PodVolumeBackup,
    PodVolumeRestore,
    Repository,
    Restore,
    Schedule,
)
from ararat.api.base import utcnow
from ararat.api.names import (
    BACKUP_UID,
    COMPONENT,
    COMPONENT_AGENT,
    COMPONENT_MAINTENANCE,
    CONTROLLER_LEASE,
    HELPER,
    OWNER_UID,
    RESTORE,
    RESTORE_UID,
)
from ararat.health import serve
from ararat.kube.api import KubeApi, KubeObject
from ararat.kube.connection import connect
from ararat.kube.events import EventRecorder
from ararat.kube.informer import Informer, key_of
from ararat.kube.resources import JOBS, PODS
from ararat.kube.resources import of as resource_of
from ararat.kube.steady import SteadyElector
from ararat.kube.workqueue import Reconciler, WorkQueue, run_workers
from ararat.restic.models import LockOwner
from controller.backup.plan import current_cluster_uid
from controller.backup.reconcile import BackupReconciler
from controller.certificates import CertificateKeeper, ServerCertificate
from controller.config import Config
from controller.context import Context
from controller.coverage_metrics import CoverageMetrics
from controller.deletion.manifests import ManifestReader
from controller.deletion.reconcile import DeletionReconciler
from controller.helper_pods import HelperReaper
from controller.keys import MasterKey
from controller.livelog import serve_live_logs
from controller.location.open import Locations
from controller.location.reconcile import LocationReconciler
from controller.maintenance.jobs import directory_index, read_template, uid_index
from controller.maintenance.planner import Plan
from controller.maintenance.reconcile import MaintenanceReconciler
from controller.metrics import ObjectsCollector, exported
from controller.repository.ensure import Repositories
from controller.repository.rotation import KeyRotation
from controller.restore.reconcile import RestoreReconciler, keys_of_pod
from controller.restore.webhook import Webhook, serve_webhooks
from controller.runlog import RunLogs
from controller.schedule.expiry import ExpiryReconciler
from controller.schedule.reconcile import ScheduleReconciler
from controller.schedule.verifying import ScheduledVerifications
from controller.spool import clear
from controller.verification.reconcile import VerificationReconciler
from controller.verification.scratch import ScratchPolicy

_WORKERS = 4
log = structlog.get_logger("controller")


#: Changes of node jobs are gathered for this long: of thousands of jobs, some change all the time.
_GATHER_SECONDS = 0.1


@dataclass(frozen=True)
class _Lane:
    """One queue, who works on it, and which informers wake it by which key."""

    queue: WorkQueue
    reconciler: Reconciler
    sources: tuple[tuple[Informer, Callable[[KubeObject], Iterable[str]]], ...]
    #: As ``sources``, but what changes so often that a look at each change would be wasted.
    busy: tuple[tuple[Informer, Callable[[KubeObject], Iterable[str]]], ...] = ()


def label_index(label: str) -> Callable[[KubeObject], Iterable[str]]:
    """Index objects by the value of a label."""

    def values(obj: KubeObject) -> Iterable[str]:
        value = (obj["metadata"].get("labels") or {}).get(label)
        return (value,) if value else ()

    return values


def schedule_index(backup: KubeObject) -> Iterable[str]:
    """Index Backups by the Schedule that made them."""
    name = backup["spec"].get("schedule")
    return (str(name),) if name else ()


def queued_index(backup: KubeObject) -> Iterable[str]:
    """Index Backups that wait for their turn, under one word."""
    return ("Queued",) if (backup.get("status") or {}).get("phase") == "Queued" else ()


def make_context(config: Config, api: KubeApi, *, cluster_uid: str, version: str) -> Context:
    """Everything the reconcilers share, wired and not yet running."""
    namespace, started = config.namespace, utcnow().isoformat()

    def lock_owner(job: str) -> LockOwner:
        return LockOwner(
            cluster=cluster_uid, pod_uid=config.pod_uid, container_start=started, job=job
        )

    def own(kind: Any, **indexers: Callable[[KubeObject], Iterable[str]]) -> Informer:
        return Informer(api, resource_of(kind), namespace=namespace, indexers=indexers)

    master_key = MasterKey(api, namespace=config.keys_namespace)
    return Context(
        api=api,
        namespace=namespace,
        keys_namespace=config.keys_namespace,
        cluster_uid=cluster_uid,
        cluster_version=version,
        events=EventRecorder(api, component="ararat-controller"),
        gate_image=config.gate_image,
        gate_pull_policy=config.gate_pull_policy,
        spool_dir=config.spool_dir,
        cache_dir=config.cache_dir,
        scratch_dir=config.scratch_dir,
        lock_owner=lock_owner,
        master_key=master_key,
        locations=Locations(
            api, namespace=namespace, master_key=master_key, cluster_uid=cluster_uid
        ),
        repositories=Repositories(
            api,
            namespace=namespace,
            scratch_dir=config.scratch_dir,
            lock_owner=lock_owner,
            master_key=master_key,
        ),
        logs=RunLogs(),
        locations_informer=own(BackupLocation),
        backups=own(Backup, schedule=schedule_index, queued=queued_index),
        restores=own(Restore),
        pod_volume_backups=own(PodVolumeBackup, **{"backup-uid": label_index(BACKUP_UID)}),
        pod_volume_restores=own(PodVolumeRestore, **{"restore-uid": label_index(RESTORE_UID)}),
        agents=Informer(api, PODS, namespace=namespace, labels=f"{COMPONENT}={COMPONENT_AGENT}"),
        gated_pods=Informer(api, PODS, labels=RESTORE, indexers={"restore": label_index(RESTORE)}),
        schedules=own(Schedule),
        deletions=own(DeleteBackupRequest),
        verifications=own(BackupVerification),
        repositories_informer=own(Repository),
        maintenance_jobs=Informer(
            api,
            JOBS,
            namespace=namespace,
            labels=f"{COMPONENT}={COMPONENT_MAINTENANCE}",
            indexers={"directory": directory_index, "repository-uid": uid_index},
        ),
        maintenance_template=read_template(config.maintenance_template),
        maintenance_plan=Plan.from_environment(config.maintenance),
        scratch_policy=ScratchPolicy.from_environment(config.verification),
        helpers=Informer(api, PODS, labels=HELPER),
        host_paths=config.host_paths,
    )


async def lead(context: Context, *, metrics: CoverageMetrics | None = None) -> None:
    """What the leader does, until cancelled."""
    async with asyncio.TaskGroup() as tasks:
        informers = (
            context.locations_informer,
            context.backups,
            context.restores,
            context.pod_volume_backups,
            context.pod_volume_restores,
            context.agents,
            context.gated_pods,
            context.schedules,
            context.deletions,
            context.verifications,
            context.repositories_informer,
            context.maintenance_jobs,
            context.helpers,
        )
        manifests = ManifestReader()
        lanes = _lanes(context, tasks, manifests)
        context.locations_informer.on_change(
            lambda change, obj, old: context.locations.changed(obj["metadata"]["name"])
        )
        for lane in lanes:
            _connect(lane)
        for informer in informers:
            tasks.create_task(informer.run())
        for informer in informers:
            await informer.synced()
        log.info("caches filled")
        tasks.create_task(KeyRotation(context, manifests).run())
        tasks.create_task(serve_live_logs(context.logs, context.scratch_dir))
        if metrics is not None:
            tasks.create_task(metrics.run(context))
        for lane in lanes:
            tasks.create_task(run_workers(lane.queue, lane.reconciler, workers=_WORKERS))


def _lanes(
    context: Context, tasks: asyncio.TaskGroup, manifests: ManifestReader
) -> tuple[_Lane, ...]:
    namespace = context.namespace
    schedules, expiries, deletions = (WorkQueue(n) for n in ("schedules", "expiry", "deletions"))
    repositories, verifications = WorkQueue("repositories"), WorkQueue("verifications")

    def repository_of(job: KubeObject) -> Iterable[str]:
        owners = job["metadata"].get("ownerReferences") or []
        return [f"{namespace}/{o['name']}" for o in owners if o["kind"] == Repository.KIND]

    def maintained(_: KubeObject) -> Iterable[str]:
        # A node job appears: what is maintained now may have to give way.
        return {key for job in context.maintenance_jobs.items() for key in repository_of(job)}

    def schedule_of(backup: KubeObject) -> Iterable[str]:
        return [f"{namespace}/{name}" for name in schedule_index(backup)]

    locations, backups, restores, helpers, verifying = (
        WorkQueue(n) for n in ("locations", "backups", "restores", "helpers", "verifying")
    )

    def active_backups(_: KubeObject) -> Iterable[str]:
        return [key_of(raw) for raw in context.backups.items() if not _ended(raw)]

    def queued_backups(changed: KubeObject) -> Iterable[str]:
        # One that runs changes all the time, and makes way for nobody by that.
        if (changed.get("status") or {}).get("phase") in ("InProgress", "Finalizing"):
            return ()
        return [key_of(raw) for raw in context.backups.by_index("queued", "Queued")]

    def restores_of_pod(pod: KubeObject) -> Iterable[str]:
        return keys_of_pod(pod, namespace=namespace)

    def active_restores(_: KubeObject) -> Iterable[str]:
        return [key_of(raw) for raw in context.restores.items() if not _ended(raw)]

    def under_way(uid: str) -> bool:
        return any(
            raw["metadata"]["uid"] == uid and not _ended(raw)
            for informer in (context.backups, context.restores, context.verifications)
            for raw in informer.items()
        )

    def helpers_of(run: KubeObject) -> Iterable[str]:
        uid = run["metadata"]["uid"]
        return [
            key_of(pod)
            for pod in context.helpers.items()
            if (pod["metadata"].get("labels") or {}).get(OWNER_UID) == uid
        ]

    def run_of_helper(pod: KubeObject) -> Iterable[str]:
        uid = (pod["metadata"].get("labels") or {}).get(OWNER_UID)
        return [key_of(raw) for raw in context.backups.items() if raw["metadata"]["uid"] == uid]

    def verification_of_helper(pod: KubeObject) -> Iterable[str]:
        uid = (pod["metadata"].get("labels") or {}).get(OWNER_UID)
        found = context.verifications.items()
        return [key_of(raw) for raw in found if raw["metadata"]["uid"] == uid]

    def verification_of_restore(restore: KubeObject) -> Iterable[str]:
        owners = restore["metadata"].get("ownerReferences") or []
        return [
            f"{namespace}/{one['name']}" for one in owners if one["kind"] == BackupVerification.KIND
        ]

    def verifications_of(backup: KubeObject) -> Iterable[str]:
        name, found = backup["metadata"]["name"], context.verifications.items()
        return [key_of(raw) for raw in found if raw["spec"]["backup"] == name and not _ended(raw)]

    def schedule_of_verification(verification: KubeObject) -> Iterable[str]:
        backup = context.backups.get(verification["spec"]["backup"], namespace)
        return schedule_of(backup) if backup is not None else ()

    def by_spec(field: str) -> Callable[[KubeObject], Iterable[str]]:
        return lambda job: (f"{namespace}/{job['spec'][field]}",)

    return (
        _Lane(
            queue=locations,
            reconciler=LocationReconciler(context),
            sources=((context.locations_informer, _own_key),),
        ),
        _Lane(
            queue=backups,
            reconciler=BackupReconciler(context, tasks=tasks, enqueue=backups.add),
            sources=(
                (context.backups, _own_key),
                (context.backups, queued_backups),
                (context.agents, active_backups),
                (context.helpers, run_of_helper),
            ),
            busy=((context.pod_volume_backups, by_spec("backup")),),
        ),
        _Lane(
            queue=restores,
            reconciler=RestoreReconciler(context, tasks=tasks, enqueue=restores.add),
            sources=(
                (context.restores, _own_key),
                (context.pod_volume_restores, by_spec("restore")),
                (context.gated_pods, restores_of_pod),
                (context.agents, active_restores),
            ),
        ),
        _Lane(
            queue=schedules,
            reconciler=ScheduleReconciler(context),
            sources=((context.schedules, _own_key), (context.backups, schedule_of)),
        ),
        _Lane(
            queue=expiries,
            reconciler=ExpiryReconciler(context),
            sources=((context.backups, _own_key),),
        ),
        _Lane(
            queue=deletions,
            reconciler=DeletionReconciler(context, manifests),
            sources=((context.deletions, _own_key),),
        ),
        _Lane(
            queue=repositories,
            reconciler=MaintenanceReconciler(context, manifests, context.maintenance_plan),
            sources=(
                (context.repositories_informer, _own_key),
                (context.maintenance_jobs, repository_of),
                (context.backups, maintained),
                (context.pod_volume_backups, maintained),
                (context.pod_volume_restores, maintained),
            ),
        ),
        _Lane(
            queue=verifications,
            reconciler=VerificationReconciler(context),
            sources=(
                (context.verifications, _own_key),
                (context.helpers, verification_of_helper),
                (context.restores, verification_of_restore),
                (context.backups, verifications_of),
            ),
            busy=((context.pod_volume_restores, by_spec("restore")),),
        ),
        _Lane(
            queue=verifying,
            reconciler=ScheduledVerifications(context),
            sources=(
                (context.schedules, _own_key),
                (context.backups, schedule_of),
                (context.verifications, schedule_of_verification),
            ),
        ),
        _Lane(
            queue=helpers,
            reconciler=HelperReaper(context.api, helpers=context.helpers, needed=under_way),
            sources=(
                (context.helpers, _own_key),
                (context.backups, helpers_of),
                (context.restores, helpers_of),
                (context.verifications, helpers_of),
            ),
        ),
    )


def _connect(lane: _Lane) -> None:
    for sources, delay in ((lane.sources, 0.0), (lane.busy, _GATHER_SECONDS)):
        for informer, keys_of in sources:
            _wake_on_change(lane.queue, informer, keys_of, delay=delay)


def _wake_on_change(
    queue: WorkQueue,
    informer: Informer,
    keys_of: Callable[[KubeObject], Iterable[str]],
    *,
    delay: float,
) -> None:
    def wake(change: str, obj: KubeObject, old: KubeObject | None) -> None:
        del change, old
        for key in keys_of(obj):
            queue.add_after(key, delay)

    informer.on_change(wake)


def _own_key(obj: KubeObject) -> Iterable[str]:
    return (key_of(obj),)


def _ended(raw: KubeObject) -> bool:
    phase = (raw.get("status") or {}).get("phase")
    return phase in (
        *("Completed", "PartiallyFailed", "Failed", "Cancelled"),
        *("Passed", "Inconclusive"),
    )


async def run(config: Config) -> None:
    """The process, until SIGTERM."""
    await asyncio.to_thread(clear, config.spool_dir)
    async with connect() as api:
        cluster_uid = await current_cluster_uid(api)
        version = await api.server_version()
        log.info("starting", cluster=cluster_uid, server=version, namespace=config.namespace)
        elector = SteadyElector(
            connect, namespace=config.namespace, name=CONTROLLER_LEASE, identity=config.pod_name
        )

        async def body() -> None:
            context = make_context(config, api, cluster_uid=cluster_uid, version=version)
            metrics = CoverageMetrics(
                per_claim=config.metrics_per_claim, clock=lambda: context.now().timestamp()
            )
            try:
                with exported(ObjectsCollector(context)):
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(lead(context, metrics=metrics))
                        if config.webhook_service:
                            keeper = CertificateKeeper(
                                api, namespace=config.namespace, service=config.webhook_service
                            )
                            tasks.create_task(keeper.run())
            finally:
                await context.locations.close()

        work = [serve(config.port, ready=lambda: None), elector.run(body)]
        if config.webhook_service:
            webhook = Webhook(
                api,
                namespace=config.namespace,
                gate_image=config.gate_image,
                gate_pull_policy=config.gate_pull_policy,
            )
            certificate = ServerCertificate(api, namespace=config.namespace)
            # Every replica serves them: followers too.
            work.append(serve_webhooks(webhook, certificate, port=config.webhook_port))
        await _until_signalled(*work)


async def _until_signalled(*work: Any) -> None:
    """Run until SIGTERM or SIGINT, then cancel and wait: the Lease is released on the way out."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(item) for item in work]
        await stop.wait()
        log.info("stopping")
        for task in running:
            task.cancel()
