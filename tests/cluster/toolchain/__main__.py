"""Command line: `python3 -m tests.cluster.toolchain [ITEM ...]`; prints where each item is."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from tests.cluster.toolchain import (
    azurite,
    kubectl,
    kubernetes,
    newer,
    prometheus,
    restic,
    system,
)
from tests.cluster.toolchain.errors import ToolchainError


def _system() -> str:
    system.ensure()
    return "installed"


def _kubectl() -> str:
    programs = kubectl.ensure()
    return f"{programs.kubectl} {programs.helm}"


# In an order in which the long build comes last and finds its packages installed.
_ITEMS: dict[str, Callable[[], str]] = {
    "system": _system,
    "restic": lambda: str(restic.ensure()),
    "azurite": lambda: str(azurite.ensure()),
    "kubectl": _kubectl,
    "prometheus": lambda: str(prometheus.ensure().prometheus),
    "kubernetes": lambda: str(kubernetes.ensure()),
}
# Too long for everyone's way: only by name.
_BY_NAME: dict[str, Callable[[], str]] = {"newer": lambda: str(newer.ensure())}


def main(arguments: list[str]) -> int:
    """Fetch the named items; by default all but those that only few need."""
    parser = argparse.ArgumentParser(prog="tests.cluster.toolchain", description=__doc__)
    names = ["all", *_ITEMS, *_BY_NAME]
    parser.add_argument("items", nargs="*", metavar="ITEM", help=f"one of {', '.join(names)}")
    chosen = set(parser.parse_args(arguments).items) or {"all"}
    for name in sorted(chosen.difference(names)):
        parser.error(f"there is no item '{name}'; choose from {', '.join(names)}")
    try:
        for name, ensure in {**_ITEMS, **_BY_NAME}.items():
            if name in chosen or ("all" in chosen and name in _ITEMS):
                print(f"{name}: {ensure()}")
    except ToolchainError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
