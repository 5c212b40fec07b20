"""One namespace with a pod of every kind of owner, each on volumes that are easy to tell apart.

Every application container runs `guard.py`: it starts on a volume that holds its data, or not at
all once the first installation is over.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.e2e.support.tools import Object

GROUP = "kinds.example.org"
FIRST = "first-install"
_SCRIPTS = ("walker.py", "guard.py", "filler.py")
_IDLE = ["/bin/sh", "-c", "trap 'exit 0' TERM; sleep infinity & wait"]
_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
_AMOUNTS = {"cpu": "10m", "memory": "48Mi"}
#: After a restore, in the image that is there.
_HOOKS = {
    "init.hook.restore.ararat.dev/command": '["sh", "-c", "echo init >> /records/hooks"]',
    "post.hook.restore.ararat.dev/command": '["sh", "-c", "echo post >> /records/hooks"]',
    "post.hook.restore.ararat.dev/wait-for-ready": "true",
}


def everything(image: str) -> list[Object]:
    """Objects without their namespace; the operator's pods are not among them."""
    here = Path(__file__).parent
    scripts = {name: (here / name).read_text() for name in _SCRIPTS}
    return [
        obj("v1", "ConfigMap", "scripts", data=scripts),
        obj("v1", "ConfigMap", FIRST, data={"allowed": "yes"}),
        obj(
            "v1",
            "ResourceQuota",
            "quota",
            spec={"hard": {"pods": "30", "limits.cpu": "20", "limits.memory": "8Gi"}},
        ),
        obj(
            "v1",
            "LimitRange",
            "limits",
            spec={
                "limits": [
                    {
                        "type": "Container",
                        "default": {"cpu": "200m", "memory": "128Mi"},
                        "defaultRequest": {"cpu": "10m", "memory": "32Mi"},
                        "max": {"cpu": "1", "memory": "1Gi"},
                    }
                ]
            },
        ),
        claim("shared", mode="ReadWriteMany"),
        claim("agents", mode="ReadWriteMany"),
        claim("one"),
        claim("two"),
        claim("left-out"),
        claim("operated"),
        _stateful_set(image),
        _deployment(image),
        _daemon_set(image),
        bare(image),
        _job(image),
        _cron_job(image),
    ]


def obj(api_version: str, kind: str, name: str, **fields: Any) -> Object:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **fields}


def claim(name: str, *, mode: str = "ReadWriteOnce") -> Object:
    spec = {"accessModes": [mode], "resources": {"requests": {"storage": "1Gi"}}}
    return obj("v1", "PersistentVolumeClaim", name, spec=spec)


def definition() -> Object:
    """The operator's kind."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True}
    return obj(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        f"databases.{GROUP}",
        spec={
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": "databases", "singular": "database", "kind": "Database"},
            "versions": [{**version, "schema": {"openAPIV3Schema": schema}}],
        },
    )


def instance(name: str) -> Object:
    return obj(f"{GROUP}/v1", "Database", name, spec={"size": 3})


def operated(image: str, name: str, owner: Object) -> Object:
    """A pod as the operator makes it: another name each time."""
    made = bare(image)
    template = _template(
        image, "operated", seed=9, mounts={"data": "/data"}, volumes=[_from("data", "operated")]
    )
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }
    metadata = {**template["metadata"], "name": name, "ownerReferences": [reference]}
    return {**made, "metadata": metadata, "spec": template["spec"]}


def bare(image: str) -> Object:
    """Five volumes, of which three are backed up."""
    template = _template(
        image,
        "bare",
        seed=4,
        mounts={"one": "/data", "two": "/two", "scratch": "/scratch", "left": "/left"},
        volumes=[
            _from("one", "one"),
            _from("two", "two"),
            {"name": "scratch", "emptyDir": {}},
            _from("left", "left-out"),
        ],
        backed_up="one,two,scratch",
        after="cp -a /data/. /two/ && cp -a /data/. /scratch/ && echo left > /left/file",
    )
    metadata = {**template["metadata"], "name": "bare"}
    metadata["annotations"] = {**metadata["annotations"], **_HOOKS}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def looking(image: str, claim_name: str) -> Object:
    """A pod that does nothing with a claim."""
    container = {
        "name": "look",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": _IDLE,
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    spec = {
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "volumes": [_from("data", claim_name)],
    }
    return obj("v1", "Pod", "look", spec=spec)


def _stateful_set(image: str) -> Object:
    template = _template(image, "web", seed=1, mounts={"data": "/data"}, volumes=[])
    return obj(
        "apps/v1",
        "StatefulSet",
        "web",
        spec={
            "replicas": 3,
            "serviceName": "web",
            "selector": {"matchLabels": {"app": "web"}},
            "template": template,
            "volumeClaimTemplates": [
                {"metadata": {"name": "data"}, "spec": claim("data")["spec"]},
            ],
        },
    )


def _deployment(image: str) -> Object:
    """Restricted, and three pods on two nodes share one claim."""
    template = _template(
        image,
        "shared",
        seed=2,
        mounts={"data": "/data"},
        volumes=[_from("data", "shared")],
        after="id -u > /data/by-user",
        plain=True,
    )
    template["spec"]["securityContext"] = {
        "runAsNonRoot": True,
        "runAsUser": 12345,
        "runAsGroup": 12345,
        "fsGroup": 23456,
        # The default has the kubelet add group permissions to every file whenever a pod starts,
        # so that a pod's replacement would change what is compared here.
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    template["spec"]["containers"][0]["securityContext"] = _RESTRICTED
    template["spec"]["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "shared"}},
        }
    ]
    return obj(
        "apps/v1",
        "Deployment",
        "shared",
        spec={
            "replicas": 3,
            "selector": {"matchLabels": {"app": "shared"}},
            "template": template,
        },
    )


def _daemon_set(image: str) -> Object:
    template = _template(
        image, "agents", seed=3, mounts={"data": "/data"}, volumes=[_from("data", "agents")]
    )
    return obj(
        "apps/v1",
        "DaemonSet",
        "agents",
        spec={"selector": {"matchLabels": {"app": "agents"}}, "template": template},
    )


def _job(image: str) -> Object:
    container = {
        "name": "once",
        "image": image,
        "command": ["sh", "-c", "echo done"],
        "resources": {"limits": _AMOUNTS},
    }
    template = {
        "metadata": {"labels": {"app": "once"}},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    return obj("batch/v1", "Job", "once", spec={"template": template})


def _cron_job(image: str) -> Object:
    job = {"template": _job(image)["spec"]["template"]}
    job["template"]["metadata"]["labels"] = {"app": "nightly"}
    return obj(
        "batch/v1beta1",
        "CronJob",
        "nightly",
        spec={"schedule": "0 0 1 1 *", "jobTemplate": {"spec": job}},
    )


def _from(volume: str, claim_name: str) -> Object:
    return {"name": volume, "persistentVolumeClaim": {"claimName": claim_name}}


def _template(
    image: str,
    app: str,
    *,
    seed: int,
    mounts: dict[str, str],
    volumes: list[Object],
    backed_up: str = "data",
    after: str = "true",
    plain: bool = False,
) -> Object:
    """``plain``: only files that somebody other than root can make."""
    fill = f"python3 /scripts/filler.py /data --seed {seed} --large 1 --large-mib 6 --small 60"
    if plain:
        fill = "for i in $(seq 40); do echo $i > /data/f$i; done"
    first = f"({fill}) && {after}"
    # Data lies in a directory of the volume, where others cannot have begun.
    guard = ["python3", "-B", "/scripts/guard.py", "--volume", "/data", "--first", first, "--"]
    spread = {
        "labelSelector": {"matchLabels": {"app": app}},
        "topologyKey": "kubernetes.io/hostname",
    }
    allowed = {"name": FIRST, "key": "allowed", "optional": True}
    return {
        "metadata": {
            "labels": {"app": app},
            "annotations": {"ararat.dev/backup-volumes": backed_up},
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
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": [*guard, *_IDLE],
                    "env": [
                        {"name": "GUARD_RECORDS", "value": "/records"},
                        {"name": "FIRST_INSTALL", "valueFrom": {"configMapKeyRef": allowed}},
                    ],
                    # Ready once the guard is done. Asking goes on no longer: each time a process is
                    # started in the container.
                    "startupProbe": {
                        "exec": {"command": ["sh", "-c", "! grep -q guard /proc/1/cmdline"]},
                        "periodSeconds": 1,
                        "failureThreshold": 600,
                    },
                    "resources": {"requests": _AMOUNTS, "limits": {"cpu": "1", "memory": "96Mi"}},
                    "volumeMounts": [
                        *({"name": name, "mountPath": path} for name, path in mounts.items()),
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
