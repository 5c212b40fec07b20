"""Kubernetes quantities as numbers, as far as sizes need them. Pure."""

from __future__ import annotations

import re
from decimal import Decimal

_QUANTITY = re.compile(r"^([+-]?[0-9.]+)([eE][+-]?[0-9]+|[A-Za-z]*)$")
_SUFFIXES = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{
        unit: Decimal(1000) ** power for power, unit in enumerate(("k", "M", "G", "T", "P", "E"), 1)
    },
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}


def parse_bytes(text: object) -> int | None:
    """``1Gi`` → 1073741824, rounded up; None where it is not a quantity."""
    match = _QUANTITY.match(str(text).strip()) if text is not None else None
    if match is None:
        return None
    number, suffix = match.groups()
    try:
        if suffix[:1] in ("e", "E") and len(suffix) > 1:
            value = Decimal(f"{number}{suffix}")
        else:
            value = Decimal(number) * _SUFFIXES[suffix]
    except (KeyError, ArithmeticError):
        return None
    whole = int(value)
    return whole if whole == value else whole + 1
