"""Grafana's components for drawing, and a bundler, from npm. Only `make dashboard` needs them."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.toolchain import npm, pins
from tests.cluster.toolchain.cache import obtain

_NAME = f"grafana-ui-{pins.GRAFANA_VERSION}-r{pins.GRAFANA_RECIPE}"


def ensure() -> Path:
    """The directory that holds node_modules."""
    return obtain(_NAME, what="installing from npm (about a minute, 500 MB)", build=_install)


def _install(target: Path) -> None:
    npm.install(
        target,
        f"@grafana/ui@{pins.GRAFANA_VERSION}",
        f"@grafana/data@{pins.GRAFANA_VERSION}",
        f"react@{pins.REACT_VERSION}",
        f"react-dom@{pins.REACT_VERSION}",
        f"esbuild@{pins.ESBUILD_VERSION}",
        options=("--ignore-scripts",),
        log=_NAME,
    )
