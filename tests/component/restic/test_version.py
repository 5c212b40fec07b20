"""A restic that does not answer, and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from ararat.restic.errors import ChildKilled, ResticMissing
from ararat.restic.version import VARIABLE, find_restic


@pytest.mark.parametrize(("script", "error"), [("kill -9 $$", ChildKilled), ("", ResticMissing)])
async def test_killed_is_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, error: type[Exception]
) -> None:
    """A job whose first look at restic is killed is tried again; one without restic is not."""
    program = tmp_path / "restic"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv(VARIABLE, str(program))
    with pytest.raises(error):
        await find_restic()
