"""Whether somebody who has a repository's inner keys can read what is stored."""

from __future__ import annotations

from ararat.restic.crypt import Keys, NotAuthentic


def opens(sealed: bytes, inner: Keys) -> bool:
    """Whether inner keys authenticate and open what was sealed."""
    try:
        inner.open(sealed)
    except NotAuthentic:
        return False
    return True
