"""The polynomial that a repository's data is cut by.

Problem: restic cuts files where a rolling hash over a random polynomial says so, chosen for each
repository so that the sizes of its pieces tell nothing about known files. The hash needs one of
degree 53 that is irreducible over GF(2), and restic refuses to open a repository with any other.
Decision: integers are polynomials, bit i the coefficient of x^i. Candidates are drawn at random,
with the lowest bit set (else x divides them), until Rabin's test accepts one. 53 is prime, so the
test is short: x^(2^53) = x modulo the candidate, and the candidate has no root. About one in 27 of
the odd ones passes; all together takes milliseconds.
"""

from __future__ import annotations

import secrets

#: What restic's chunker demands.
DEGREE = 53


def random_polynomial() -> int:
    """An irreducible one, which nobody can guess."""
    while True:
        candidate = secrets.randbits(DEGREE) | 1 << DEGREE | 1
        if irreducible(candidate):
            return candidate


def irreducible(polynomial: int) -> bool:
    """Whether nothing divides it. Only for those of degree 53."""
    if polynomial.bit_length() != DEGREE + 1:
        raise ValueError(f"{polynomial:#x} is not of degree {DEGREE}")
    if not polynomial & 1 or not polynomial.bit_count() & 1:  # 0 or 1 is a root
        return False
    power = 2  # x
    for _ in range(DEGREE):
        power = _square(power, polynomial)
    return power == 2


def _square(value: int, modulus: int) -> int:
    """``value`` squared, modulo ``modulus``: over GF(2) every bit goes to twice its place."""
    squared = int(f"{value:b}", 4)
    for bit in range(squared.bit_length() - 1, DEGREE - 1, -1):
        if squared >> bit & 1:
            squared ^= modulus << (bit - DEGREE)
    return squared
