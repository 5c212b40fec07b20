"""The restic program: from PATH, else built with the Go that is there, else from a newer Debian.

Limits: Debian builds restic without its Azure backend. The product does not need it (it speaks
restic's REST protocol), only the trial of opening a repository by hand does.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.cluster.toolchain import pins
from tests.cluster.toolchain.apt import PrivateApt
from tests.cluster.toolchain.cache import obtain, run
from tests.cluster.toolchain.errors import ToolchainError

_NAME = f"restic-{pins.RESTIC_VERSION}-r{pins.RESTIC_RECIPE}"


def ensure() -> Path:
    """The path of a restic program that is new enough."""
    present = shutil.which("restic")
    if present and (_version([present, "version"]) or (0,)) >= pins.RESTIC_MINIMUM:
        return Path(present)
    found = _version(["go", "version"])
    if found and found >= pins.RESTIC_GO_MINIMUM:
        return (
            obtain(
                _NAME,
                what="building with the Go on PATH (about 1 minute)",
                build=_build_from_source,
            )
            / "bin/restic"
        )
    return packaged(pins.RESTIC_SUITE)


def packaged(suite: str) -> Path:
    """The restic of that Debian suite: an older one, to see what is done with it."""
    directory = obtain(
        f"restic-{suite}-r{pins.RESTIC_RECIPE}",
        what=f"taking the package of Debian {suite} (about 15 seconds)",
        build=lambda target: _unpack_package(target, suite=suite),
    )
    return directory / "usr/bin/restic"


def _version(argv: list[str]) -> tuple[int, ...] | None:
    """The first dotted number that *argv* prints, or None where it does not run."""
    try:
        printed = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    except OSError:
        return None
    match = re.search(r"(\d+)\.(\d+)", printed)
    return (int(match[1]), int(match[2])) if match else None


def _build_from_source(target: Path) -> None:
    """Build as a dependency of an otherwise empty module.

    `go install …@version` would also ask for the list of all versions, which not every proxy
    answers; this asks for the pinned one only.
    """
    work = target / "work"
    work.mkdir()
    (work / "go.mod").write_text(
        f"module ararat.test/restic\n\nrequire github.com/restic/restic v{pins.RESTIC_VERSION}\n"
    )
    environment = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOPATH": str(work / "gopath"),
        "GOCACHE": str(work / "gocache"),
        "GOFLAGS": "-modcacherw -trimpath -mod=mod",
    }
    output = str(target / "bin/restic")
    run(
        ["go", "build", "-ldflags", "-s -w", "-o", output, "github.com/restic/restic/cmd/restic"],
        log=_NAME,
        cwd=work,
        env=environment,
    )
    shutil.rmtree(work)


def _unpack_package(target: Path, *, suite: str) -> None:
    work = target / "work"
    apt = PrivateApt(root=work / "apt", suite=suite, log=_NAME)
    apt.update()
    apt.unpack(["restic"], into=target)
    shutil.rmtree(work)
    if not _version([str(target / "usr/bin/restic"), "version"]):
        raise ToolchainError(
            f"restic: the package of Debian {suite} does not run here; put restic "
            f"{'.'.join(map(str, pins.RESTIC_MINIMUM))} or newer, or Go "
            f"{'.'.join(map(str, pins.RESTIC_GO_MINIMUM))} or newer, on PATH"
        )
