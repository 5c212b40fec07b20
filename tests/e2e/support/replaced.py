"""Pods that are replaced while their volumes wait for data, in every way a cluster has for it.

Problem: "the data arrives before the application starts, exactly once" must hold for the pod that
comes instead; and a race with the agents that fill volumes meets few moments, and never the same.
Decision: the agents are sent away, so that every pod stands at its gate; then one pod of each owner
is replaced: by an eviction, a rollout, a deletion, an operator's pod under another name; and only
when the new ones stand at their gates do the agents come back. Afterwards every state of every pod
is judged, and the node jobs tell how often each volume was written to.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

from tests.e2e.support.nodejobs import fills
from tests.e2e.support.podwatch import GATE, PodHistory
from tests.e2e.support.tools import CommandFailed, Object, Tools
from tests.e2e.support.waiting import eventually

_AGENT = "app.kubernetes.io/component=agent"
_NOWHERE = "ararat-e2e/nowhere"


@contextlib.contextmanager
def agents_away(tools: Tools) -> Iterator[None]:
    """No node has an agent while the block runs."""
    (agents,) = tools.items("daemonsets", namespace=tools.namespace, selector=_AGENT)
    name = agents["metadata"]["name"]

    def select(value: str | None) -> None:
        patch = {"spec": {"template": {"spec": {"nodeSelector": {_NOWHERE: value}}}}}
        where = ("-n", tools.namespace, "--type", "merge", "-p", json.dumps(patch))
        tools.kubectl("patch", "daemonset", name, *where)

    def gone() -> bool:
        return tools.items("pods", namespace=tools.namespace, selector=_AGENT) == []

    select("yes")
    try:
        eventually(gone, what="the agents to go", timeout=120)
        yield
    finally:
        select(None)
    tools.kubectl("rollout", "status", f"daemonset/{name}", "-n", tools.namespace, timeout=180)


def held(tools: Tools, namespace: str) -> dict[str, list[Object]]:
    """Pods whose gate runs, by app."""
    found: dict[str, list[Object]] = {}
    for pod in tools.items("pods", namespace=namespace, selector="app"):
        statuses = pod.get("status", {}).get("initContainerStatuses") or []
        waits = any(s["name"] == GATE and "running" in s["state"] for s in statuses)
        if waits and "deletionTimestamp" not in pod["metadata"]:
            found.setdefault(pod["metadata"]["labels"]["app"], []).append(pod)
    return found


def at_their_gates(tools: Tools, namespace: str, expected: Mapping[str, int]) -> None:
    def all_held() -> bool:
        found = held(tools, namespace)
        return all(len(found.get(app, ())) >= count for app, count in expected.items())

    eventually(
        all_held,
        what=f"{dict(expected)} at their gates in {namespace}",
        timeout=180,
        interval=1.0,
        seen=lambda: tools.kubectl("get", "pods", "-n", namespace, "-o", "wide"),
    )


def cause_is_told(tools: Tools, restore: str, reason: str, *, words: str = "") -> str:
    """The restore says within a minute what it waits for; returns its sentence."""

    def told() -> list[str]:
        found = tools.get("restores.ararat.dev", restore, namespace=tools.namespace)
        waiting = ((found or {}).get("status") or {}).get("waiting") or []
        return [
            cause["message"]
            for cause in waiting
            if cause["reason"] == reason and words in cause["message"]
        ]

    what = f"restore {restore} to say {reason} {words}"
    return eventually(told, what=what, timeout=60, interval=1.0)[0]


def replace_all(tools: Tools, namespace: str) -> None:
    """One pod of each owner, each in another way; their successors stand at their gates then."""
    before = {app: [p["metadata"] for p in pods] for app, pods in held(tools, namespace).items()}
    # Of an ordered set the first: the others are made again only when that one is ready.
    _evict(tools, namespace, "web-0")
    tools.kubectl("rollout", "restart", "deployment/shared", "-n", namespace)
    for app in ("agents", "operated"):
        where = ("-n", namespace, "--wait=false")
        tools.kubectl("delete", "pod", before[app][0]["name"], *where)
    known = {metadata["uid"] for pods in before.values() for metadata in pods}

    def succeeded() -> bool:
        new = {
            app
            for app, pods in held(tools, namespace).items()
            if any(pod["metadata"]["uid"] not in known for pod in pods)
        }
        return new >= {"web", "shared", "agents", "operated"}

    eventually(
        succeeded,
        what="a successor of each owner's pod at its gate",
        timeout=180,
        interval=1.0,
        seen=lambda: tools.kubectl("get", "pods", "-n", namespace, "-o", "wide"),
    )
    names = {p["metadata"]["name"] for p in held(tools, namespace)["operated"]}
    assert before["operated"][0]["name"] not in names, "the operator's pods have new names"


def _evict(tools: Tools, namespace: str, pod: str) -> None:
    """Through the eviction API, as a drain does it."""
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    body = {"kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
    try:
        review = json.dumps({"apiVersion": "policy/v1", **body})
        tools.kubectl("create", "--raw", path, "-f", "-", stdin=review)
    except CommandFailed:  # a server before 1.22
        review = json.dumps({"apiVersion": "policy/v1beta1", **body})
        tools.kubectl("create", "--raw", path, "-f", "-", stdin=review)


def _fills(tools: Tools, restore: str) -> dict[str, list[Object]]:
    """The node jobs of a restore that write, by claim, in their order."""
    found: dict[str, list[Object]] = {}
    for job in fills(tools, restore):
        if claim := job["spec"].get("claim"):
            found.setdefault(claim["name"], []).append(job)
    for jobs in found.values():
        jobs.sort(key=lambda job: str(job["metadata"]["creationTimestamp"]))
    return found


def prove_held(tools: Tools, history: PodHistory, restore: str, *, claims: Collection[str]) -> None:
    """At every moment: no application ran before its volumes were filled.

    A pod without a gate may only be one that was made after all its claims had been filled.
    """
    filled = {
        claim: _time(job["status"]["completionTime"]).replace(microsecond=0)
        for claim, jobs in _fills(tools, restore).items()
        for job in jobs
        if job["status"]["phase"] == "Completed"
    }
    assert set(filled) == set(claims)
    early = PodHistory()
    for versions in history.pods().values():
        pod = versions[-1]
        mounted = {
            volume["persistentVolumeClaim"]["claimName"]
            for volume in pod["spec"].get("volumes", [])
            if "persistentVolumeClaim" in volume
        } & set(claims)
        made = _time(pod["metadata"]["creationTimestamp"])
        if any(made < filled[claim] for claim in mounted):
            early.versions += versions
    assert early.versions
    assert early.violations(gated=claims) == []


def prove_once(tools: Tools, restore: str, *, claims: Collection[str]) -> None:
    """Each claim was filled by one job, and no two were ever at it at the same time."""
    for claim, jobs in _fills(tools, restore).items():
        done = [job for job in jobs if job["status"]["phase"] == "Completed"]
        assert len(done) == 1, f"{claim} was filled {len(done)} times"
        spans = [_span(job) for job in jobs if job["status"].get("startTime")]
        for (_, ended), (began, _) in itertools.pairwise(spans):
            assert ended <= began, f"{claim} was written to twice at once: {spans}"
    assert set(_fills(tools, restore)) == set(claims)


def _span(job: Object) -> tuple[datetime, datetime]:
    status: dict[str, Any] = job["status"]
    return _time(status["startTime"]), _time(status["completionTime"])


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
