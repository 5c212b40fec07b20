"""How long to stay away after a failure: doubling, capped, spread.

The spread is wide on purpose (half to one and a half times): a thousand agents that lose the same
API server must not come back in the same second.
"""

from __future__ import annotations

import random


def delay(failures: int, *, first: float, cap: float) -> float:
    """Seconds before attempt ``failures + 1``. ``failures`` counts from 1."""
    # The exponent is bounded because 2.0 ** 1024 is an OverflowError, not a long wait.
    exact = min(cap, first * 2.0 ** min(failures - 1, 60))
    return min(cap, exact * random.uniform(0.5, 1.5))  # noqa: S311 - not a secret
