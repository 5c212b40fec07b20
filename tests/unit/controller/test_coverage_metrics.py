from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ararat.api.backup import BackupPhase, BackupSpec, ObjectsResult
from ararat.api.manifest import Coverage, Manifest, ManifestVolume
from ararat.api.nodejob import ClaimReference
from controller.coverage_metrics import CoverageMetrics


def manifest(uid: str, hour: int, *, schedule: str = "", **claims: Coverage) -> Manifest:
    return Manifest(
        backup=uid,
        backup_uid=uid,
        cluster_uid="cl",
        location_id="l1",
        spec=BackupSpec(schedule=schedule or None),
        phase=BackupPhase.COMPLETED,
        start_time=datetime(2026, 1, 1, hour, tzinfo=UTC),
        completion_time=datetime(2026, 1, 1, hour, tzinfo=UTC),
        objects=ObjectsResult(),
        volumes=[
            ManifestVolume(
                namespace="wp",
                pod="p",
                volume="v",
                claim=ClaimReference(name=name),
                coverage=coverage,
            )
            for name, coverage in claims.items()
        ],
    )


def numbers(metrics: CoverageMetrics) -> dict[tuple[str, ...], float]:
    return {
        (sample.name.removeprefix("ararat_"), *sample.labels.values()): sample.value
        for metric in metrics.collect()
        for sample in metric.samples
    }


def test_ages_are_those_of_the_last_good_backup_of_claims_that_exist() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()
    metrics = CoverageMetrics(per_claim=True, clock=lambda: noon)
    ledger = metrics.ledger
    ledger.claims = frozenset({("wp", "a"), ("wp", "b"), ("wp", "c"), ("shop", "a")})
    good, bad = Coverage.BACKED_UP, Coverage.FAILED
    ledger.add(manifest("u2", 8, a=good, b=bad, gone=good))
    ledger.add(manifest("u1", 6, a=good, b=good, c=Coverage.INCOMPLETE))
    expected: dict[tuple[str, ...], Any] = {
        ("claims", "wp"): 3,
        ("claims", "shop"): 1,
        ("claims_never_backed_up", "wp"): 1,
        ("claims_never_backed_up", "shop"): 1,
        ("claims_oldest_good_backup_seconds", "wp"): 6 * 3600,
        ("claim_last_good_backup_seconds", "wp", "a"): 4 * 3600,
        ("claim_last_good_backup_seconds", "wp", "b"): 6 * 3600,
    }
    assert numbers(metrics) == expected
    ledger.keep(["u2"])
    found = numbers(metrics)
    assert found["claims_never_backed_up", "wp"] == 2
    assert ("claim_last_good_backup_seconds", "wp", "b") not in found


def test_without_the_option_there_is_no_metric_for_a_claim() -> None:
    metrics = CoverageMetrics(per_claim=False)
    metrics.ledger.claims = frozenset({("wp", "a")})
    metrics.ledger.add(manifest("u1", 6, a=Coverage.BACKED_UP))
    assert {key[0] for key in numbers(metrics)} == {
        "claims",
        "claims_never_backed_up",
        "claims_oldest_good_backup_seconds",
    }


def test_a_claim_is_overdue_when_its_schedule_runs_and_does_not_read_it() -> None:
    """Every two hours; at 12:00 a good copy must have begun at 9:00 or later."""
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()
    metrics = CoverageMetrics(per_claim=False, clock=lambda: noon)
    ledger = metrics.ledger
    names = ("good", "late", "other", "partly", "new", "unasked")
    ledger.claims = frozenset(("wp", name) for name in names)
    ledger.intervals = {"often": 7200.0, "idle": 7200.0}
    good, bad, partly = Coverage.BACKED_UP, Coverage.FAILED, Coverage.INCOMPLETE
    ledger.add(
        manifest(
            "u3",
            11,
            schedule="often",
            good=good,
            late=bad,
            other=bad,
            partly=partly,
            new=bad,
            gone=bad,
            unasked=Coverage.UNPROTECTED,
        )
    )
    ledger.add(manifest("u1", 8, schedule="often", good=good, late=good, partly=good))
    ledger.add(manifest("hand", 9, other=good))  # any backup protects it
    ledger.add(manifest("i1", 8, schedule="idle", good=bad))  # the schedule itself is overdue
    ledger.add(manifest("r1", 11, schedule="rests", late=bad))  # paused: no interval is known
    found = {key[1:] for key in numbers(metrics) if key[0] == "claim_overdue"}
    assert found == {("often", "wp", name) for name in ("late", "partly", "new")}
    ledger.add(manifest("u4", 12, schedule="often", late=good, partly=good, new=good))
    assert not [key for key in numbers(metrics) if key[0] == "claim_overdue"]
