"""Three minutes of ``make torture``; tests/component/agent/torture.py says what must hold.

Most of it is waiting: 80 to 95 s of CPU time, API server and store included, were measured.

The seed is fixed: a suite that must be green repeats what was seen green, and searching is what the
long form is for. ARARAT_TORTURE_SEED and ARARAT_TORTURE_SECONDS choose others.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cluster.apiserver import ControlPlane
from tests.cluster.azurite import Azurite
from tests.component.agent.torture import Torture
from tests.component.blob.conftest import azurite

__all__ = ["azurite"]

_SEED = 101
_SECONDS = 180.0


@pytest.mark.timeout(900)
async def test_nothing_is_lost_whatever_is_killed(
    control_plane: ControlPlane, azurite: Azurite, tmp_path: Path, restic: Path
):
    seed = int(os.environ.get("ARARAT_TORTURE_SEED", _SEED))
    seconds = float(os.environ.get("ARARAT_TORTURE_SECONDS", _SECONDS))
    print(f"seed {seed}; the same again: ARARAT_TORTURE_SEED={seed} pytest {__file__}")
    torture = Torture(
        seed=seed, seconds=seconds, plane=control_plane, azurite=azurite, path=tmp_path
    )
    report = await torture.run()
    print("\n".join(report.lines()))
    if report.wrong:
        print((tmp_path / "agent.log").read_text(errors="replace")[-20_000:])
    assert report.wrong == []
    # It was torture, and work was done all the same.
    assert report.trouble
    assert report.phases["PodVolumeBackup Completed"]
