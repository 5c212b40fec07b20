from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ararat import human


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (212 * 1024**2, "212.0 MiB"),
        (3 * 1024**3 + 512 * 1024**2, "3.5 GiB"),
        (1024**4, "1.0 TiB"),
        (5 * 1024**5, "5.0 PiB"),
        (2048 * 1024**5, "2048.0 PiB"),
        (-2048, "-2.0 KiB"),
    ],
)
def test_size(count: int, text: str) -> None:
    assert human.size(count) == text


@given(st.integers(min_value=0, max_value=1024**6 - 1))
def test_size_never_shows_a_thousand_of_a_unit_that_has_a_next_one(count: int) -> None:
    number, unit = human.size(count).split()
    assert float(number) < 1024 or unit == "PiB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0s"),
        (0.4, "0s"),
        (45, "45s"),
        (59.6, "1m 00s"),
        (185, "3m 05s"),
        (3599.4, "59m 59s"),
        (7800, "2h 10m"),
        (47 * 3600 + 59 * 60, "47h 59m"),
        (48 * 3600, "2d 0h"),
        (4 * 86400 + 3 * 3600, "4d 3h"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert human.duration(seconds) == text


@pytest.mark.parametrize(
    ("done", "total", "text"),
    [
        (0, 0, ""),
        (2048, 0, "2.0 KiB"),
        (0, 1024, "0 B of 1.0 KiB (0%)"),
        (1023, 1024, "1023 B of 1.0 KiB (99%)"),
        (1024, 1024, "1.0 KiB"),
        (4096, 1024, "1.0 KiB"),
    ],
)
def test_progress_text(done: int, total: int, text: str) -> None:
    assert human.progress_text(done, total) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 volumes"), (1, "1 volume"), (2, "2 volumes"), (1234, "1,234 volumes")],
)
def test_plural(count: int, text: str) -> None:
    assert human.plural(count, "volume") == text
