"""What a verification has found: its verdict, and what its status says on the way. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ararat.api.backup import Failure
from ararat.api.nodejob import Progress
from ararat.api.verification import (
    BackupVerificationStatus,
    RunOutcome,
    VerificationPhase,
    VerifiedCounts,
)
from ararat.human import plural, progress_text, size

from . import run
from .memory import Memory, key
from .targets import empty_of, untried

_SHOWN_FAILURES = 50


@dataclass(frozen=True)
class Findings:
    memory: Memory
    status: BackupVerificationStatus

    def failures(self) -> list[Failure]:
        ended = [e.failure for e in self.memory.ended.values() if e.failure is not None]
        ran = run.failure_of(self.status.run)
        others = [failure for failure in (self.memory.objects_failure, ran) if failure is not None]
        return [*others, *sorted([*self.memory.broken, *ended], key=lambda f: f.object)]

    def verdict(self) -> tuple[VerificationPhase, str, str]:
        """Of everything together: phase, reason, message."""
        failures = self.failures()
        bad = [failure for failure in failures if not untried(failure)]
        if bad:
            text = f"{plural(len(bad), 'part')} not as promised"
            return VerificationPhase.FAILED, bad[0].reason, _with_first(text, bad[0])
        if failures:
            text = f"{plural(len(failures), 'part')} could not be tried"
            first = failures[0]
            return VerificationPhase.INCONCLUSIVE, first.reason, _with_first(text, first)
        manifest = self.memory.manifest
        assert manifest is not None
        done = sum(target.bytes for target in self.memory.targets)
        volumes = len(self.memory.targets) + empty_of(manifest)
        objects = self.status.objects or 0
        text = f"{plural(volumes, 'volume')} with {size(done)} and {plural(objects, 'object')}"
        text += " were restored and read: all is as promised"
        state = self.status.run
        if state is not None and state.outcome is RunOutcome.PASSED:
            text += f"; {state.message}"
        return VerificationPhase.PASSED, "AsPromised", text

    def shown(self) -> dict[str, Any]:
        """What the status says about volumes."""
        memory = self.memory
        if memory.manifest is None:
            return {}
        empty, failures = empty_of(memory.manifest), self.failures()
        others = (memory.objects_failure, run.failure_of(self.status.run))
        of_volumes = [failure for failure in failures if failure not in others]
        total = len(memory.targets) + empty + len(memory.broken)
        not_tried = sum(untried(failure) for failure in of_volumes)
        counts = VerifiedCounts(
            total=total,
            passed=empty + sum(e.failure is None for e in memory.ended.values()),
            failed=len(of_volumes) - not_tried,
            untried=not_tried,
        )
        text = f"{counts.passed} of {total} passed"
        text += f", {counts.failed} failed" if counts.failed else ""
        text += f", {counts.untried} not tried" if counts.untried else ""
        return {
            "volumes": counts.model_copy(update={"text": text}).to_dict(),
            "progress": self._progress().to_dict(),
            "failures": [failure.to_dict() for failure in failures[:_SHOWN_FAILURES]],
            "failureCount": len(failures),
        }

    def _progress(self) -> Progress:
        total = done = files = files_done = 0
        for target in self.memory.targets:
            total, files = total + target.bytes, files + target.files
            job = self.memory.running.get(key(target))
            if key(target) in self.memory.ended:
                done, files_done = done + target.bytes, files_done + target.files
            elif job is not None:
                done += min(job.status.progress.bytes_done, target.bytes)
                files_done += min(job.status.progress.files_done, target.files)
        return Progress(
            total_bytes=total,
            bytes_done=done,
            total_files=files,
            files_done=files_done,
            text=progress_text(done, total),
        )


def _with_first(text: str, failure: Failure) -> str:
    return f"{text}, the first: {failure.object}: {failure.message}"
