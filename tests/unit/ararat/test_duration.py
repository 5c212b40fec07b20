from __future__ import annotations

from datetime import timedelta

import pytest

from ararat.duration import parse
from ararat.errors import InvalidSpec


@pytest.mark.parametrize(
    ("text", "hours"), [("36h", 36), ("1w2d12h", 228), ("90m", 1.5), ("30d", 720), ("3600s", 1)]
)
def test_spans(text, hours):
    assert parse(text) == timedelta(hours=hours)


@pytest.mark.parametrize("text", ["", "5", "d", "-1d", "1 d", "0d", "1y", "1d\n", "9999999d"])
def test_what_is_none(text):
    with pytest.raises(InvalidSpec):
        parse(text)
