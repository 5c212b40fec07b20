"""Packages from npm, each at its pinned version."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.toolchain.cache import run


def install(target: Path, *packages: str, options: tuple[str, ...], log: str) -> None:
    """Into ``target/node_modules``."""
    quiet = ("--no-audit", "--no-fund", "--no-package-lock")
    run(["npm", "install", "--prefix", str(target), *quiet, *options, *packages], log=log)
