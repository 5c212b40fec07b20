"""What the pods of a verification need next, and what becomes of them."""

from __future__ import annotations

from typing import Any

import pytest

from ararat.api import BackupVerification, Restore
from ararat.api.names import COPY_OF, RUN_OF
from ararat.api.verification import RunOutcome, VerificationRun
from controller.verification.copies import build_namespace, build_policy, copy_name, is_ours
from controller.verification.running import (
    Holds,
    NeedsAnswers,
    NeedsRestore,
    Over,
    Seen,
    container_of,
    next_act,
)
from controller.verification.targets import UNTRIED

COPIES = {"wp": "copy-wp", "db": "copy-db"}
ASKED = VerificationRun.model_validate(
    {
        "timeout": "10m",
        "probes": [
            {"namespace": "db", "command": ["pg_isready"]},
            {"labelSelector": {"matchLabels": {"app": "web"}}, "command": ["curl"]},
        ],
    }
)
PLAIN = VerificationRun(timeout="10m")


def restored(phase: str = "Completed", **status: Any) -> Restore:
    raw = {"metadata": {"name": "r"}, "spec": {"backup": "b"}, "status": {"phase": phase, **status}}
    return Restore.parse(raw)


def pod(
    name: str = "web", namespace: str = "copy-wp", *, ready: bool = True, **status: Any
) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "labels": {"app": name},
        },
        "spec": {"containers": [{"name": "main"}, {"name": "side"}]},
        "status": {"phase": "Running" if ready else "Pending", "conditions": conditions, **status},
    }


def deployment(*, wanted: int = 1, ready: int = 0) -> dict[str, Any]:
    return {
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "copy-wp"},
        "spec": {"replicas": wanted},
        "status": {"readyReplicas": ready},
    }


def crashed() -> dict[str, Any]:
    last = {"terminated": {"exitCode": 3, "message": "no such table"}}
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    status = {"name": "main", "restartCount": 2, "lastState": last, "state": waiting}
    return pod(ready=False, containerStatuses=[status])


def not_pulled() -> dict[str, Any]:
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "registry is away"}}
    return pod(ready=False, containerStatuses=[{"name": "main", "state": waiting}])


def test_from_the_restore_to_the_answers() -> None:
    assert next_act(ASKED, COPIES, Seen(None)) == NeedsRestore()
    filling = Seen(restored("InProgress", message="1 of 2 volumes"))
    assert next_act(ASKED, COPIES, filling) == Holds("1 of 2 volumes")
    db = pod("db", "copy-db")
    starting = Seen(restored(), workloads=[deployment()], pods=[db])
    assert next_act(ASKED, COPIES, starting) == Holds("Deployment copy-wp/web: 0 of 1 pod ready")
    ready = Seen(restored(), workloads=[deployment(ready=1)], pods=[db, pod()])
    assert next_act(ASKED, COPIES, ready) == NeedsAnswers(((0, db), (1, pod())))
    half = Seen(ready.restore, ready.workloads, ready.pods, passed=frozenset({(0, "uid-db")}))
    assert next_act(ASKED, COPIES, half) == NeedsAnswers(((1, pod()),))
    both = frozenset({(0, "uid-db"), (1, "uid-web")})
    done = next_act(ASKED, COPIES, Seen(ready.restore, ready.workloads, ready.pods, passed=both))
    assert done == Over(RunOutcome.PASSED, "PodsRan", "2 pods started, 2 probes succeeded")
    assert container_of(ASKED.probes[0], db) == "main"


@pytest.mark.parametrize(
    ("seen", "outcome", "reason", "said"),
    [
        (Seen(None, overdue=True), "Untried", "RunTimedOut", "not begun"),
        (Seen(restored("InProgress"), overdue=True), "Untried", "RunTimedOut", "within 10m"),
        (Seen(restored("Failed", message="no")), "Untried", "RunNotRestored", "no"),
        (
            Seen(
                restored(
                    "PartiallyFailed", failures=[{"object": "o", "reason": "r", "message": "m"}]
                )
            ),
            "Untried",
            "RunNotRestored",
            "o: m",
        ),
        (Seen(restored()), "Untried", "NothingToRun", "no pod"),
        (
            Seen(restored(), pods=[crashed()], overdue=True),
            "Failed",
            "PodsNotReady",
            "pod copy-wp/web: container main ended with exit code 3: no such table",
        ),
        (
            Seen(restored(), pods=[not_pulled()], overdue=True),
            "Untried",
            "PodsNotStarted",
            "registry is away",
        ),
        (
            Seen(restored(), pods=[not_pulled(), crashed()], overdue=True),
            "Failed",
            "PodsNotReady",
            "exit code 3",
        ),
        (
            Seen(restored(), workloads=[deployment(wanted=2, ready=1)], pods=[pod()], overdue=True),
            "Untried",
            "PodsNotStarted",
            "1 of 2 pods ready",
        ),
    ],
)
def test_its_end(seen: Seen, outcome: str, reason: str, said: str) -> None:
    over = next_act(PLAIN, COPIES, seen)
    assert isinstance(over, Over)
    assert (over.outcome, over.reason) == (outcome, reason)
    assert said in over.message
    assert (over.reason in UNTRIED) == (outcome == "Untried")


def test_a_probe_that_fails_is_tried_until_the_time_is_over() -> None:
    seen = Seen(restored(), pods=[pod(), pod("db", "copy-db")], answer="exit code 1")
    assert isinstance(next_act(ASKED, COPIES, seen), NeedsAnswers)
    late = Seen(seen.restore, pods=seen.pods, answer="exit code 1", overdue=True)
    assert next_act(ASKED, COPIES, late) == Over(RunOutcome.FAILED, "ProbeFailed", "exit code 1")
    nobody = next_act(ASKED, COPIES, Seen(restored(), pods=[pod()]))
    assert isinstance(nobody, Over)
    assert nobody.reason == "ProbeWithoutPods"


def test_pods_that_count_and_pods_that_do_not() -> None:
    """A finished bare pod, one that its owner replaces, one that goes: none is waited for."""
    owned = pod("old", ready=False, phase="Failed")
    owned["metadata"]["ownerReferences"] = [{"controller": True}]
    leaving = pod("leaving", ready=False)
    leaving["metadata"]["deletionTimestamp"] = "2026-11-23T06:00:00Z"
    ended = pod("ended", ready=False, phase="Succeeded")
    over = next_act(PLAIN, COPIES, Seen(restored(), pods=[pod(), owned, leaving, ended]))
    assert isinstance(over, Over)
    assert over.outcome is RunOutcome.PASSED


def test_only_what_has_label_and_name_is_removed() -> None:
    raw = {"metadata": {"name": "v", "uid": "u1"}, "spec": {"backup": "b"}}
    one = BackupVerification.parse(raw)
    labels = {"pod-security.kubernetes.io/enforce": "privileged", "istio-injection": "enabled"}
    made = build_namespace(one, "wp", labels)
    metadata = made["metadata"]
    assert metadata["labels"] == {
        "pod-security.kubernetes.io/enforce": "privileged",
        RUN_OF: "u1",
        "ararat.dev/exclude-from-backup": "true",
    }
    assert is_ours(made, "u1")
    assert not is_ours(made, "u2")
    # A namespace of somebody's that carries a copied label.
    assert not is_ours({"metadata": {**metadata, "name": "wp"}}, "u1")
    stranger = {**metadata, "annotations": {COPY_OF: "other"}}
    assert not is_ours({"metadata": stranger}, "u1")
    assert copy_name("wp", "u1") != copy_name("wp", "u2")
    assert len(copy_name("n" * 63, "u1")) <= 63


def test_the_policy_lets_in_only_its_own() -> None:
    one = BackupVerification.parse(
        {"metadata": {"name": "v", "uid": "u1"}, "spec": {"backup": "b"}}
    )
    spec = build_policy(one, "wp")["spec"]
    own = [{"namespaceSelector": {"matchLabels": {RUN_OF: "u1"}}}]
    names = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
    assert spec == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": own}],
        "egress": [{"to": own}, {"ports": names}],
    }
