from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ararat.restic.polynomial import DEGREE, irreducible, random_polynomial

#: What ``restic init`` 0.19.1 chose for five repositories.
CHOSEN_BY_RESTIC = [
    0x3E3EE19768FACD,
    0x2527508736BC15,
    0x3E4CA0396A7569,
    0x26DD698EF7919F,
    0x2695482439D9C7,
]


def times(one: int, other: int) -> int:
    product = 0
    for bit in range(other.bit_length()):
        if other >> bit & 1:
            product ^= one << bit
    return product


@pytest.mark.parametrize("polynomial", CHOSEN_BY_RESTIC)
def test_those_that_restic_chooses_are_irreducible(polynomial: int) -> None:
    assert irreducible(polynomial)


def test_ours_are_of_the_degree_and_differ() -> None:
    chosen = {random_polynomial() for _ in range(5)}
    assert len(chosen) == 5
    assert all(polynomial.bit_length() == DEGREE + 1 for polynomial in chosen)


@st.composite
def products(draw: st.DrawFn) -> int:
    """Products of two polynomials without a root, of degree 53: what a quick look does not see."""
    low = draw(st.integers(2, 51))
    ends = 1 << low | 1, 1 << (DEGREE - low) | 1
    factors = [end ^ draw(st.integers(0, (1 << end.bit_length() - 1) - 1)) & ~1 for end in ends]
    return times(*factors)


@given(products())
@settings(max_examples=300)
def test_products_are_not(polynomial: int) -> None:
    assert polynomial.bit_length() == DEGREE + 1
    assert not irreducible(polynomial)


@pytest.mark.parametrize("polynomial", [0, 3, 1 << 52 | 1, 1 << 54 | 1])
def test_other_degrees_are_a_mistake_of_the_caller(polynomial: int) -> None:
    with pytest.raises(ValueError, match="degree"):
        irreducible(polynomial)
