"""What counts as a retry, and what is remembered of earlier agents."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from agent.decide import Stop
from agent.metrics import AgentMetrics


def test_runs_that_somebody_ended_are_no_retries() -> None:
    registry = CollectorRegistry()
    metrics = AgentMetrics(registry)
    for phase, reason in (
        ("New", "Killed"),
        ("New", "Killed"),
        ("New", Stop.SHUTDOWN),
        ("Failed", "Killed"),
        ("Cancelled", Stop.CANCELLED),
    ):
        metrics.ended(kind="backup", phase=phase, reason=reason, seconds=1)
    labels = {"kind": "backup", "reason": "Killed"}
    assert registry.get_sample_value("ararat_agent_retries_total", labels) == 2
    (family,) = (f for f in registry.collect() if f.name == "ararat_agent_retries")
    assert {s.labels["reason"] for s in family.samples} == {"Killed"}


def test_the_last_success_never_goes_back() -> None:
    registry = CollectorRegistry()
    metrics = AgentMetrics(registry)
    for at in (1000.0, 3000.0, 2000.0):
        metrics.succeeded(kind="restore", at=at)
    found = registry.get_sample_value(
        "ararat_agent_last_success_timestamp_seconds", {"kind": "restore"}
    )
    assert found == 3000.0


def test_exits_add_up() -> None:
    registry = CollectorRegistry()
    metrics = AgentMetrics(registry)
    for _ in range(2):
        metrics.restic_ended({("backup", "3"): 1, ("snapshots", "SIGKILL"): 2})
    for labels, count in (
        ({"command": "backup", "code": "3"}, 2),
        ({"command": "snapshots", "code": "SIGKILL"}, 4),
    ):
        assert registry.get_sample_value("ararat_agent_restic_exits_total", labels) == count
