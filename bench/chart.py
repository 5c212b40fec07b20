"""What the controller needs by the size of the cluster, drawn: ``python -m bench.chart``.

Reads what ``bench.controller --keep`` kept and writes docs/scale.svg: for each run one bar of
memory at its worst moment, the controller's own part dark, beside the limit it must not reach.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.controller import RESULTS

CHART = Path(__file__).parents[1] / "docs" / "scale.svg"
#: MiB, for controller, restic and spool together.
LIMIT = 300
_LEFT, _WIDTH, _BAR, _GAP, _TOP = 220, 400, 22, 16, 34


def draw(results: list[dict[str, Any]]) -> str:
    """The chart as SVG."""
    height = _TOP + len(results) * (_BAR + _GAP) + 34
    limit = _at(LIMIT)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 700 {height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="700" height="{height}" fill="#fff"/>',
        f'<text x="{limit}" y="20" text-anchor="middle" fill="#b00">limit {LIMIT} MiB</text>',
        f'<line x1="{limit}" x2="{limit}" y1="26" y2="{height - 28}" stroke="#b00"/>',
    ]
    for number, one in enumerate(results):
        y = _TOP + number * (_BAR + _GAP)
        own, total = one["peak_rss_mib"], one["peak_total_mib"]
        text = f"{one['volumes']:,} volumes, {one['objects']:,} objects"
        parts += [
            f'<text x="{_LEFT - 8}" y="{y + 15}" text-anchor="end">{text}</text>',
            _bar(y, total, "#9db8d9"),
            _bar(y, min(own, total), "#2f5d91"),
            f'<text x="{_at(total) + 6:.0f}" y="{y + 15}">{total:.0f} ({own:.0f})</text>',
        ]
    what = "MiB at the worst moment: controller, restic and spool (the controller alone, dark)"
    parts += [f'<text x="12" y="{height - 10}" fill="#555">{what}</text>', "</svg>"]
    return "\n".join(parts) + "\n"


def _at(mib: float) -> float:
    return _LEFT + _WIDTH * mib / LIMIT


def _bar(y: float, mib: float, colour: str) -> str:
    width = _at(mib) - _LEFT
    return f'<rect x="{_LEFT}" y="{y}" width="{width:.0f}" height="{_BAR}" fill="{colour}"/>'


if __name__ == "__main__":
    CHART.write_text(draw(json.loads(RESULTS.read_text())))
