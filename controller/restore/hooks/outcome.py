"""What the hooks of a restore came to: sums, failures, warnings, what is waited for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ararat.api.backup import Failure
from ararat.api.hooks import OnError
from ararat.api.restore import RestoreHookCounts
from ararat.hooks import When
from ararat.human import plural
from controller.hooks.results import HookResult

from .decide import INIT_FAILED, INTERRUPTED, NOT_READY, NOT_RUN
from .record import Record

_FAILED = "RestoreHookFailed"
_OWN = frozenset({INIT_FAILED, INTERRUPTED, NOT_READY, NOT_RUN})


@dataclass(frozen=True)
class Standing:
    """How the hooks of a restore stand."""

    counts: RestoreHookCounts
    #: Pods whose hooks have not ended, and why.
    waiting: Sequence[Failure] = ()
    failures: Sequence[Failure] = ()
    warnings: Sequence[str] = ()
    #: Pods that have hooks.
    pods: frozenset[str] = frozenset()

    @property
    def settled(self) -> bool:
        return not self.counts.waiting


def standing(records: Iterable[tuple[Record, str]]) -> Standing:
    """``records``: each with what its pod waits for now."""
    found = list(records)
    failures: list[Failure] = []
    warnings: list[str] = []
    for record, _ in found:
        if record.invalid:
            failures.append(Failure(object=record.id, reason="InvalidHook", message=record.invalid))
        for result in record.results:
            if not result.failed:
                continue
            if result.on_error is OnError.CONTINUE:
                warnings.append(result.message)
            else:
                failures.append(
                    Failure(object=record.id, reason=_reason(result), message=result.message)
                )
    waiting = [
        Failure(object=record.id, reason="Hooks", message=cause or "its hooks are running")
        for record, cause in found
        if not record.finished
    ]
    return Standing(
        counts=_counts([record for record, _ in found], waiting=len(waiting)),
        waiting=waiting,
        failures=failures,
        warnings=warnings,
        pods=frozenset(record.id for record, _ in found),
    )


def _counts(records: Sequence[Record], *, waiting: int) -> RestoreHookCounts:
    attempted = sum(len(record.results) for record in records)
    failed = sum(result.failed for record in records for result in record.results)
    failed += sum(bool(record.invalid) for record in records)
    words = [plural(len(records), "pod"), f"{attempted} run"]
    words += [f"{failed} failed"] if failed else []
    words += [f"{waiting} waiting"] if waiting else []
    return RestoreHookCounts(
        pods=len(records),
        attempted=attempted,
        failed=failed,
        waiting=waiting,
        text=", ".join(words) if records else "none",
    )


def _reason(result: HookResult) -> str:
    if result.reason in _OWN:
        return result.reason
    return INIT_FAILED if result.when is When.INIT else _FAILED


def lines(records: Iterable[Record]) -> list[dict[str, object]]:
    """For the results that are kept with the restore: without commands and what they printed."""
    return [
        {
            "pod": record.id,
            "hooks": [
                {
                    "when": result.when.value,
                    "container": result.container,
                    "exitCode": result.exit_code,
                    "reason": result.reason,
                    "message": result.message,
                    "seconds": result.seconds,
                }
                for result in record.results
            ],
            "invalid": record.invalid,
        }
        for record in records
    ]
