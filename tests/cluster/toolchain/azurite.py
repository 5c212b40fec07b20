"""Azurite, the emulator of Azure Blob Storage, from npm."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.toolchain import npm, pins
from tests.cluster.toolchain.cache import obtain

_NAME = f"azurite-{pins.AZURITE_VERSION}-r{pins.AZURITE_RECIPE}"


def ensure() -> Path:
    """The path of the azurite-blob program."""
    directory = obtain(_NAME, what="installing from npm (about 30 seconds)", build=_install)
    return directory / "node_modules/.bin/azurite-blob"


def _install(target: Path) -> None:
    npm.install(target, f"azurite@{pins.AZURITE_VERSION}", options=("--omit=dev",), log=_NAME)
