"""A small application to back up: a Deployment and a StatefulSet with claims on several nodes.

Problem: tests of the round trip need data that is easy to lose, in pods of both kinds that can be
restored, and an application that tells whether it ever saw an empty volume.
Decision: every container runs `guard.py`; at the first installation it fills its volume with
`filler.py`. The ConfigMap that allows this is deleted afterwards, so a restored container that
finds nothing refuses to run.
Limits: the image needs a python3 and a shell; containers run as root to make files of any owner.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.support.tools import Object, Tools
from tests.e2e.support.waiting import eventually
from tests.e2e.support.walks import Walk, same, walk

_SCRIPTS = ("walker.py", "guard.py", "filler.py")
_DATA = "/data"
_VOLUME = "data"
_FIRST_INSTALL = "first-install"
_IDLE = ["/bin/sh", "-c", "trap 'exit 0' TERM; sleep infinity & wait"]


@dataclass(frozen=True)
class Records:
    """What a container's guard saw at its first start."""

    starts: tuple[Mapping[str, object], ...]
    walk: Walk


@dataclass(frozen=True)
class Workload:
    """The application in one namespace."""

    tools: Tools
    namespace: str
    image: str
    replicas: int = 2
    storage_class: str | None = None
    fill: str = "--large 1 --large-mib 8 --small 200"
    shared: bool = False
    """The Deployment's claim is one that every node sees."""

    def install(self) -> Workload:
        """Install for the first time, wait until every volume is full, then forbid it."""
        first = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"allowed": "yes"}}
        self.tools.kubectl("create", "namespace", self.namespace)
        self.tools.apply([_named(first, _FIRST_INSTALL, self.namespace), *self.objects()])
        self.wait_until_running()
        self.tools.kubectl("delete", "configmap", _FIRST_INSTALL, "-n", self.namespace)
        return self

    def objects(self) -> list[Object]:
        """Everything but the namespace."""
        here = Path(__file__).parent
        scripts = {name: (here / name).read_text() for name in _SCRIPTS}
        return [
            _named(
                {"apiVersion": "v1", "kind": "ConfigMap", "data": scripts},
                "scripts",
                self.namespace,
            ),
            _named(
                self._claim("ReadWriteMany" if self.shared else "ReadWriteOnce"),
                "files",
                self.namespace,
            ),
            _named(self._deployment(), "files", self.namespace),
            _named(self._stateful_set(), "parts", self.namespace),
        ]

    def wait_until_running(self, *, timeout: float = 120.0) -> None:
        """Wait until every pod of the application is ready."""

        def ready() -> bool:
            pods = self.tools.items("pods", namespace=self.namespace, selector="app")
            return len(pods) == 1 + self.replicas and all(map(_is_ready, pods))

        eventually(
            ready,
            what=f"{1 + self.replicas} ready pods in {self.namespace}",
            timeout=timeout,
            seen=lambda: self.tools.kubectl("get", "pods", "-n", self.namespace, "-o", "wide"),
        )
        # Their owners must have taken to them too: a restored pod nobody owns would look as well.
        for owner in ("deployment/files", "statefulset/parts"):
            limit = f"--timeout={timeout:.0f}s"
            where = ("-n", self.namespace, limit)
            self.tools.kubectl("rollout", "status", owner, *where, timeout=timeout + 10)

    def nodes(self) -> set[str]:
        """The nodes its pods run on."""
        pods = self.tools.items("pods", namespace=self.namespace, selector="app")
        return {pod["spec"]["nodeName"] for pod in pods}

    def walks(self) -> dict[str, Walk]:
        """A walk of every volume, by claim."""
        return {
            claim: walk(self.tools, namespace=self.namespace, pod=pod, directory=_DATA)
            for claim, pod in self.pods_by_claim().items()
        }

    def records(self) -> dict[str, Records]:
        """What each container's guard saw, by claim."""
        found: dict[str, Records] = {}
        for claim, pod in self.pods_by_claim().items():
            found[claim] = records(self.tools, namespace=self.namespace, pod=pod)
        return found

    def prove_equal(self, before: Mapping[str, Walk]) -> None:
        """Assert that every volume is what it was: now, and when its container started."""
        self.prove_guarded(before)
        after = self.walks()
        for claim, walked in before.items():
            same(walked, after[claim])

    def prove_guarded(self, before: Mapping[str, Walk]) -> None:
        """Assert that every container started once, on the volume as it had been."""
        found = self.records()
        assert set(found) == set(before)
        for claim, walked in before.items():
            assert len(found[claim].starts) == 1, f"{claim}: {found[claim].starts}"
            assert not found[claim].starts[0]["empty"], f"{claim} was empty at the start"
            same(walked, found[claim].walk)

    def in_namespace(self, namespace: str) -> Workload:
        """The same application elsewhere."""
        return Workload(self.tools, namespace, self.image, self.replicas, self.storage_class)

    def pods_by_claim(self) -> dict[str, str]:
        """Which pod mounts it."""
        found: dict[str, str] = {}
        for pod in self.tools.items("pods", namespace=self.namespace, selector="app"):
            for volume in pod["spec"]["volumes"]:
                if volume["name"] == _VOLUME:
                    claim = volume["persistentVolumeClaim"]["claimName"]
                    found[claim] = pod["metadata"]["name"]
        return found

    def _claim(self, mode: str = "ReadWriteOnce") -> Object:
        spec: Object = {
            "accessModes": [mode],
            "resources": {"requests": {"storage": "1Gi"}},
        }
        if self.storage_class:
            spec["storageClassName"] = self.storage_class
        return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": spec}

    def _deployment(self) -> Object:
        volume = {"name": _VOLUME, "persistentVolumeClaim": {"claimName": "files"}}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"app": "files"}},
                "strategy": {"type": "Recreate"},
                "template": self._pod("files", seed=1, volumes=[volume]),
            },
        }

    def _stateful_set(self) -> Object:
        return {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "spec": {
                "replicas": self.replicas,
                "serviceName": "parts",
                "podManagementPolicy": "Parallel",
                "selector": {"matchLabels": {"app": "parts"}},
                "template": self._pod("parts", seed=2, volumes=[]),
                "volumeClaimTemplates": [{"metadata": {"name": _VOLUME}, **self._claim()}],
            },
        }

    def _pod(self, app: str, *, seed: int, volumes: list[Object]) -> Object:
        fill = f"python3 /scripts/filler.py {_DATA} --seed {seed} {self.fill}"
        allowed = {"name": _FIRST_INSTALL, "key": "allowed", "optional": True}
        guard = ["python3", "/scripts/guard.py", "--volume", _DATA, "--first", fill]
        spread = {
            "labelSelector": {"matchLabels": {"app": app}},
            "topologyKey": "kubernetes.io/hostname",
        }
        return {
            "metadata": {
                "labels": {"app": app},
                "annotations": {"ararat.dev/backup-volumes": _VOLUME},
            },
            "spec": {
                "terminationGracePeriodSeconds": 2,
                "affinity": {
                    "podAntiAffinity": {
                        "preferredDuringSchedulingIgnoredDuringExecution": [
                            {"weight": 100, "podAffinityTerm": spread}
                        ]
                    }
                },
                "containers": [
                    {
                        "name": "app",
                        "image": self.image,
                        "imagePullPolicy": "IfNotPresent",
                        "command": [*guard, "--", *_IDLE],
                        "env": [
                            {"name": "GUARD_RECORDS", "value": "/records"},
                            {"name": "FIRST_INSTALL", "valueFrom": {"configMapKeyRef": allowed}},
                        ],
                        # Ready once the guard is done: it is replaced by the idle shell. Asking
                        # goes on no longer: each time a process is started in the container.
                        "startupProbe": {
                            "exec": {"command": ["sh", "-c", "! grep -q guard /proc/1/cmdline"]},
                            "periodSeconds": 1,
                            "failureThreshold": 600,
                        },
                        "volumeMounts": [
                            {"name": _VOLUME, "mountPath": _DATA},
                            {"name": "records", "mountPath": "/records"},
                            {"name": "scripts", "mountPath": "/scripts"},
                        ],
                    }
                ],
                "volumes": [
                    *volumes,
                    {"name": "records", "emptyDir": {}},
                    {"name": "scripts", "configMap": {"name": "scripts"}},
                ],
            },
        }


def records(
    tools: Tools, *, namespace: str, pod: str, container: str = "app", directory: str = "/records"
) -> Records:
    """What the guard of a container kept: one line per start, and the walk of its first."""
    log = tools.kubectl("logs", "-n", namespace, pod, "-c", container)
    starts = [json.loads(line[6:]) for line in log.splitlines() if line.startswith("GUARD ")]
    kept = tools.exec(
        namespace,
        pod,
        ["sh", "-c", f"ls {directory}/start-*.jsonl >&2; cat {directory}/start-1.jsonl"],
        container=container,
    )
    return Records(starts=tuple(starts), walk=Walk.parse(kept))


def _named(document: Object, name: str, namespace: str) -> Object:
    return {**document, "metadata": {"name": name, "namespace": namespace}}


def _is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]
