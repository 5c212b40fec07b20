"""How long after its gate's last word an application starts.

Problem: Kubernetes' own times are whole seconds, and what is to be known is a fraction of one.
Decision: the gate's last line has the moment in which the container runtime read it; the guard in
the application's container keeps the moment of its own first line. Both are clocks of one node.
Beside it pods whose init container only says a word and ends, on the same nodes: between that word
and their container's first line lies what the kubelet needs for any pod.
Limits: between the two also lies the start of Python, in both.
"""

from __future__ import annotations

from datetime import datetime

from tests.e2e.support.podwatch import GATE
from tests.e2e.support.tools import Object
from tests.e2e.support.waiting import eventually
from tests.e2e.support.workload import Workload


def seconds_to_start(app: Workload) -> dict[str, float]:
    """By claim."""
    found = {}
    records = app.records()
    for claim, pod in app.pods_by_claim().items():
        began = records[claim].starts[0]["began"]
        assert isinstance(began, float)
        found[claim] = began - _last_word(app, pod, GATE)
    return found


def seconds_of_the_kubelet(app: Workload) -> dict[str, float]:
    """The same of pods that wait for nothing, one beside each pod of the application."""
    names = {}
    for claim, pod in app.pods_by_claim().items():
        beside = app.tools.get("pod", pod, namespace=app.namespace)
        assert beside is not None
        names[claim] = f"plain-{claim}"
        app.tools.apply([_plain(app, names[claim], beside["spec"]["nodeName"])])

    found = {}
    for claim, name in names.items():
        where = ("-n", app.namespace, "--timeout=120s")
        app.tools.kubectl("wait", "--for=condition=Ready", f"pod/{name}", *where, timeout=150.0)
        said = ("logs", name, "-n", app.namespace, "-c", "app")
        word = eventually(
            lambda said=said: app.tools.kubectl(*said),  # type: ignore[misc]
            what=f"the first line of {name}",
            timeout=120,
        )
        found[claim] = float(word) - _last_word(app, name, "first")
    return found


def _last_word(app: Workload, pod: str, container: str) -> float:
    line = app.tools.kubectl(
        *("logs", pod, "-n", app.namespace, "-c", container, "--timestamps", "--tail=1")
    )
    return datetime.fromisoformat(_six_digits(line.split(" ", 1)[0])).timestamp()


def _plain(app: Workload, name: str, node: str) -> Object:
    def container(name: str, script: str) -> Object:
        return {
            "name": name,
            "image": app.image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["python3", "-c", script],
        }

    now = "import time; print(time.time(), flush=True); time.sleep(600)"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": app.namespace},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "initContainers": [container("first", "import time; time.sleep(2); print('over')")],
            "containers": [container("app", now)],
        },
    }


def _six_digits(stamp: str) -> str:
    """Python reads microseconds, and the runtime writes nanoseconds."""
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    return f"{whole}.{fraction[:6]:0<6}+00:00"
