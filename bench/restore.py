"""API objects restored beside a bare loop that creates them: ``python -m bench.restore --help``.

Each round restores the same objects twice into fresh namespaces of one real API server: by the
product (plan, then pipeline: order, waits, marks, tally), and by a bare loop that sends the same
bodies with the same client, as many at a time. Which goes first alternates, so that whatever else
the machine does falls on both. What is reported is objects per second and the median of the rounds'
ratios, bare to ours: 1 means that the product costs nothing.

Limits: API server, etcd and both contenders share the processors; no webhook and no controller is
there; the objects are small (configuration, Secrets, accounts, roles, services).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ararat.api import Restore
from ararat.api.backup import BackupPhase, BackupSpec, ObjectsResult
from ararat.api.base import Meta, utcnow
from ararat.api.manifest import Manifest
from ararat.api.restore import RestoreSpec, RestoreStatus
from ararat.concurrency import for_each
from ararat.kube import KubeApi, connect
from ararat.kube.resources import NAMESPACES
from controller.restore.create import Creator
from controller.restore.existing import read_existing
from controller.restore.gate import GateSettings
from controller.restore.pipeline import PARALLEL, Pipeline
from controller.restore.plan import Item, Plan
from controller.restore.planner import make_plan
from controller.restore.stored import StoredObject
from tests.cluster.apiserver import ControlPlane

_OWN = frozenset({"ararat", "ararat-keys"})
_KINDS = ("configmaps", "configmaps", "secrets", "serviceaccounts", "roles", "services")


@dataclass(frozen=True)
class Sample:
    round: int
    contender: str
    objects: int
    wall: float
    cpu: float
    #: Making the plan; the bare loop has none.
    planning: float = 0.0

    @property
    def per_second(self) -> float:
        return self.objects / self.wall


def objects(count: int, namespaces: Sequence[str]) -> Iterator[StoredObject]:
    """What most of a cluster's objects are."""
    for number in range(count):
        kind = _KINDS[number % len(_KINDS)]
        metadata = {
            "name": f"{kind}-{number}",
            "namespace": namespaces[number % len(namespaces)],
            "uid": str(uuid.uuid4()),
            "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app": f"app-{number % 50}", "app.kubernetes.io/managed-by": "bench"},
        }
        group = "rbac.authorization.k8s.io" if kind == "roles" else ""
        yield StoredObject(kind, group, {**_content(kind), "metadata": metadata})


def _content(kind: str) -> dict[str, Any]:
    match kind:
        case "configmaps":
            return {"apiVersion": "v1", "kind": "ConfigMap", "data": {"file": "x" * 1000}}
        case "secrets":
            data = {"password": "eHh4eHh4eHh4eHg="}
            return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": data}
        case "serviceaccounts":
            return {"apiVersion": "v1", "kind": "ServiceAccount"}
        case "roles":
            rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}
            version = "rbac.authorization.k8s.io/v1"
            return {"apiVersion": version, "kind": "Role", "rules": [rule]}
        case _:
            spec = {"selector": {"app": "x"}, "ports": [{"port": 80}], "clusterIP": "None"}
            return {"apiVersion": "v1", "kind": "Service", "spec": spec}


async def plan_for(api: KubeApi, stored: Sequence[StoredObject], mapping: dict[str, str]) -> Plan:
    uid = str(uuid.uuid4())
    restore = Restore(
        metadata=Meta(name="bench", namespace="ararat", uid=uid),
        spec=RestoreSpec(backup="b", namespace_mapping=mapping),
        status=RestoreStatus(),
    )
    manifest = Manifest(
        backup="b",
        backup_uid="b",
        cluster_uid="other",
        location_id="l",
        spec=BackupSpec(),
        phase=BackupPhase.COMPLETED,
        start_time=utcnow(),
        completion_time=utcnow(),
        namespaces=sorted(mapping),
        objects=ObjectsResult(),
        repositories=[],
        volumes=[],
    )
    served = (await api.discover()).resources
    existing = await read_existing(
        api, cluster_uid="here", namespaces=mapping.values(), served=served
    )
    gate = GateSettings(image="gate", restore="bench", restore_uid=uid)
    return make_plan(restore, manifest, stored, existing, gate=gate, own_namespaces=_OWN)


async def by_product(api: KubeApi, plan: Plan) -> None:
    pipeline = Pipeline(api, plan, Creator(api, "uid"), restore="bench", gate_image="gate")
    if not await pipeline.run() or pipeline.tally.created != plan.total:
        raise SystemExit(f"the restore failed: {pipeline.tally}")


async def by_loop(api: KubeApi, plan: Plan, *, parallel: int) -> None:
    """The same requests: namespaces first, then everything at once."""
    items = [item for _, items in plan.steps() for item in items]
    rest = iter([item for item in items if item.resource != "namespaces"])

    async def work(queue: Iterator[Item]) -> None:
        for item in queue:
            assert item.body is not None
            await api.create(item.type, item.body, namespace=item.namespace)

    for item in items:
        if item.resource == "namespaces" and item.body is not None:
            await api.create(NAMESPACES, item.body)
    await for_each([rest] * parallel, work, at_once=parallel)


async def measure(
    api: KubeApi, contender: str, number: int, *, count: int, parallel: int
) -> Sample:
    names = [f"ns-{n}" for n in range(10)]
    fresh = uuid.uuid4().hex[:8]
    stored = list(objects(count, names))
    began = time.perf_counter()
    plan = await plan_for(api, stored, {name: f"{name}-{fresh}" for name in names})
    planned = time.perf_counter()
    cpu = time.process_time()
    if contender == "ours":
        await by_product(api, plan)
    else:
        await by_loop(api, plan, parallel=parallel)
    return Sample(
        round=number,
        contender=contender,
        objects=plan.total,
        wall=time.perf_counter() - planned,
        cpu=time.process_time() - cpu,
        planning=planned - began if contender == "ours" else 0.0,
    )


async def compare(kubeconfig: str, *, rounds: int, count: int, parallel: int) -> list[Sample]:
    samples = []
    async with connect(kubeconfig) as api:
        await measure(api, "bare", 0, count=min(count, 500), parallel=parallel)  # warm
        for number in range(rounds):
            order = ("ours", "bare") if number % 2 == 0 else ("bare", "ours")
            for contender in order:
                sample = await measure(api, contender, number, count=count, parallel=parallel)
                samples.append(sample)
                print(
                    f"round {number} {contender:5} {sample.per_second:7.0f} objects/s "
                    f"{sample.wall:6.2f} s wall {sample.cpu:6.2f} s CPU",
                    flush=True,
                )
    return samples


def summary(samples: Sequence[Sample]) -> dict[str, float]:
    ours = {s.round: s for s in samples if s.contender == "ours"}
    bare = {s.round: s for s in samples if s.contender == "bare"}
    median = statistics.median
    return {
        "ours, objects/s": round(median(s.per_second for s in ours.values())),
        "bare, objects/s": round(median(s.per_second for s in bare.values())),
        "ratio": round(median(bare[n].wall / ours[n].wall for n in ours), 2),
        "ours, CPU ms each": round(median(1000 * s.cpu / s.objects for s in ours.values()), 2),
        "bare, CPU ms each": round(median(1000 * s.cpu / s.objects for s in bare.values()), 2),
        "planning, objects/s": round(median(s.objects / s.planning for s in ours.values())),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--objects", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parallel", type=int, default=PARALLEL, help="of the bare loop")
    parser.add_argument("--at-least", type=float, default=0.7, help="fail below this ratio")
    parser.add_argument("--kubeconfig", help="an API server that is there; default: an own one")
    parser.add_argument("--write", type=Path, help="where to put the result as JSON")
    options = parser.parse_args(arguments)
    settings = {"rounds": options.rounds, "count": options.objects, "parallel": options.parallel}
    if options.kubeconfig:
        samples = asyncio.run(compare(options.kubeconfig, **settings))
    else:
        with ControlPlane() as plane:
            samples = asyncio.run(compare(str(plane.kubeconfig), **settings))
    result = summary(samples)
    for name, value in result.items():
        print(f"{name:22} {value}")
    if options.write:
        document = {
            "settings": settings,
            "processors": os.cpu_count(),
            "load": round(os.getloadavg()[0], 1),
            "python": platform.python_version(),
            "result": result,
            "samples": [asdict(sample) for sample in samples],
        }
        options.write.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if result["ratio"] >= options.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
