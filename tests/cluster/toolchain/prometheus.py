"""Prometheus and promtool: both from PATH, else from Debian's package, unpacked into the cache."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.toolchain import pins
from tests.cluster.toolchain.apt import PrivateApt
from tests.cluster.toolchain.cache import obtain
from tests.cluster.toolchain.errors import ToolchainError

_NAME = f"prometheus-{pins.PROMETHEUS_SUITE}-r{pins.PROMETHEUS_RECIPE}"


@dataclass(frozen=True)
class Programs:
    """Where the two programs are."""

    prometheus: Path
    promtool: Path


def ensure() -> Programs:
    """Both programs, fetched if need be."""
    prometheus, promtool = shutil.which("prometheus"), shutil.which("promtool")
    if prometheus and promtool:
        return Programs(prometheus=Path(prometheus), promtool=Path(promtool))
    directory = obtain(
        _NAME,
        what=f"taking the package of Debian {pins.PROMETHEUS_SUITE} (about 15 seconds)",
        build=_unpack,
    )
    return Programs(
        prometheus=directory / "usr/bin/prometheus", promtool=directory / "usr/bin/promtool"
    )


def _unpack(target: Path) -> None:
    work = target / "work"
    apt = PrivateApt(root=work / "apt", suite=pins.PROMETHEUS_SUITE, log=_NAME)
    apt.update()
    apt.unpack(["prometheus"], into=target)
    shutil.rmtree(work)
    for name in ("prometheus", "promtool"):
        argv = [str(target / "usr/bin" / name), "--version"]
        if subprocess.run(argv, capture_output=True, check=False).returncode != 0:
            raise ToolchainError(
                f"prometheus: {name} of Debian {pins.PROMETHEUS_SUITE} does not run here; put "
                "prometheus and promtool on PATH"
            )
