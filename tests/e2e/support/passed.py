"""How long after its gate's last word an application starts.

Problem: Kubernetes' own times are whole seconds, and what is to be known is a fraction of one.
Decision: the gate's last line has the moment in which the container runtime read it; the guard in
the application's container keeps the moment of its own first line. Both are clocks of one node.
Limits: between the two lie the end of the gate's process, the kubelet, and the start of Python.
"""

from __future__ import annotations

from datetime import datetime

from tests.e2e.support.podwatch import GATE
from tests.e2e.support.workload import Workload


def seconds_to_start(app: Workload) -> dict[str, float]:
    """By claim."""
    found = {}
    records = app.records()
    for claim, pod in app.pods_by_claim().items():
        line = app.tools.kubectl(
            *("logs", pod, "-n", app.namespace, "-c", GATE, "--timestamps", "--tail=1")
        )
        opened = datetime.fromisoformat(_six_digits(line.split(" ", 1)[0])).timestamp()
        began = records[claim].starts[0]["began"]
        assert isinstance(began, float)
        found[claim] = began - opened
    return found


def _six_digits(stamp: str) -> str:
    """Python reads microseconds, and the runtime writes nanoseconds."""
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    return f"{whole}.{fraction[:6]:0<6}+00:00"
