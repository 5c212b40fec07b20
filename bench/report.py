"""From samples to a table: medians of each round's ratio."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.volumes import Cell, shape
from tests.cluster.toolchain import restic as toolchain

MIB = 1024 * 1024


@dataclass(frozen=True)
class Sample:
    """One step of one round, by one contender."""

    cell: str
    store: str
    step: str
    round: int
    contender: str
    wall: float
    cpu: float
    peak: int
    stored: int
    details: dict[str, Any] = field(default_factory=dict)


def line(sample: Sample) -> str:
    return (
        f"{sample.cell} {sample.store:10} {sample.step:12} {sample.contender:6} "
        f"{sample.wall:7.2f} s wall {sample.cpu:7.2f} s CPU {sample.peak / MIB:5.0f} MiB "
        f"{sample.stored / MIB:8.1f} MiB stored"
    )


def machine() -> dict[str, str]:
    """What the numbers depend on; no names."""
    model = next(
        (
            text.partition(":")[2].strip()
            for text in Path("/proc/cpuinfo").read_text().splitlines()
            if text.startswith("model name")
        ),
        "unknown",
    )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    version = subprocess.run(
        [str(toolchain.ensure()), "version"], capture_output=True, text=True, check=True
    ).stdout.strip()
    return {
        "processors": f"{os.cpu_count()} of {model}",
        "memory": f"{memory / 1024 / MIB:.0f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "restic": version,
    }


def markdown(
    samples: Iterable[Sample],
    *,
    machine: dict[str, str],
    scale: float,
    rounds: int,
    steps: Sequence[str],
) -> str:
    found = list(samples)
    rows = [
        "Speed and CPU: restic's figure divided by ours (above 1: ours needs less); the median of "
        f"{rounds} rounds. Memory: ours less restic's, in MiB; in brackets less what our "
        "process held before the job came. Overhead: seconds of ours that are not restic's.",
        "",
        *(f"- {name}: {value}" for name, value in machine.items()),
        *(f"- {cell.value}: {shape(cell, scale).text}" for cell in Cell),
        "",
        "| cell | store | step | ours, s | restic, s | speed | CPU | memory | stored | overhead |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for cell in Cell:
        for store in ("filesystem", "azurite"):
            for step in steps:
                chosen = [s for s in found if (s.cell, s.store, s.step) == (cell, store, step)]
                if chosen:
                    rows.append(_row(cell, store, step, chosen))
    return "\n".join(rows)


def _row(cell: Cell, store: str, step: str, samples: list[Sample]) -> str:
    ours = {s.round: s for s in samples if s.contender == "ours"}
    theirs = {s.round: s for s in samples if s.contender != "ours"}
    pairs = [(ours[number], theirs[number]) for number in sorted(ours)]

    def middle(pick: Callable[[Sample, Sample], float]) -> float:
        return statistics.median(pick(a, b) for a, b in pairs)

    more = middle(lambda a, b: (a.peak - b.peak) / MIB)
    job = middle(lambda a, b: (a.peak - a.details.get("idle", 0) - b.peak) / MIB)
    stored = middle(lambda a, b: a.stored / b.stored if b.stored > 10_000 else 1.0)
    return (
        f"| {cell.value} | {store} | {step} | {middle(lambda a, _: a.wall):.2f} "
        f"| {middle(lambda _, b: b.wall):.2f} | {middle(lambda a, b: b.wall / a.wall):.2f} "
        f"| {middle(lambda a, b: b.cpu / a.cpu):.2f} | {more:+.0f} ({job:+.0f}) | {stored:.2f} "
        f"| {middle(lambda a, _: a.details.get('overhead', 0.0)):.2f} |"
    )
