from __future__ import annotations

import pytest

from ararat.restic.launch import KINDS, handled


@pytest.mark.parametrize(
    ("abi", "files", "net", "scoped", "size"),
    [
        (1, 13, 0, 0, 8),
        (2, 14, 0, 0, 8),
        (3, 15, 0, 0, 8),
        (4, 15, 3, 0, 16),
        (5, 16, 3, 0, 16),
        (6, 16, 3, 1, 24),
        (9, 16, 3, 1, 24),
    ],
)
def test_only_what_a_kernel_knows_is_asked_of_it(
    abi: int, files: int, net: int, scoped: int, size: int
) -> None:
    """linux/landlock.h: an older kernel refuses bits and sizes that it does not know."""
    assert handled(abi) == ((1 << files) - 1, net, scoped, size)


def test_kinds_grow() -> None:
    assert KINDS["read"] & KINDS["execute"] == KINDS["read"]
    assert KINDS["work"] & KINDS["restore"] == KINDS["work"]
    execute = 1
    assert not KINDS["restore"] & execute
    make_socket = 1 << 9
    assert not KINDS["restore"] & make_socket
