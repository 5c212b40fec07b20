"""Debian packages the cluster needs, installed only where their programs are missing."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.toolchain import pins
from tests.cluster.toolchain.cache import lock, run, say
from tests.cluster.toolchain.errors import ToolchainError

_POLICY = Path("/usr/sbin/policy-rc.d")
_REFUSE_TO_START = "#!/bin/sh\nexit 101\n"


def missing() -> list[str]:
    """The packages whose proving file or program is not there."""
    return [
        package
        for package, proof in pins.SYSTEM_PACKAGES.items()
        if not (Path(proof).exists() if proof.startswith("/") else _on_path(proof))
    ]


def ensure() -> None:
    """Install what is missing; starts no daemon."""
    if not missing():
        return
    with lock("system"):
        packages = missing()
        if not packages:
            return
        if os.geteuid() != 0:
            raise ToolchainError(
                f"system: these Debian packages are missing: {' '.join(packages)}; "
                "install them, or run this as root"
            )
        say(f"system: installing {' '.join(packages)} (about 30 seconds)")
        with _no_daemons():
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            wait = ["-o", "DPkg::Lock::Timeout=300"]
            run(["apt-get", "-q", *wait, "update"], log="system", env=environment)
            run(
                ["apt-get", "-q", "-y", *wait, "install", "--no-install-recommends", *packages],
                log="system",
                env=environment,
            )
    still = missing()
    if still:
        raise ToolchainError(f"system: still missing after installation: {' '.join(still)}")


def _on_path(program: str) -> bool:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None


@contextlib.contextmanager
def _no_daemons() -> Iterator[None]:
    """Have package scripts start no service; a policy that is already there stays as it is."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text(_REFUSE_TO_START)
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
