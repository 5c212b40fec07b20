"""A second, newer kube-apiserver: clusters that are restored into are seldom of the old version.

Problem: Debian's source package has one version of Kubernetes, and what sixteen releases change in
the objects that a restore makes shows only in an API server of another.
Decision: the API server alone, built with the Go on PATH as a dependency of an otherwise empty
module. What Kubernetes keeps in one tree is published as modules as well; each stands in for its
directory of that tree.
Limits: about 10 minutes of processor time, so only `make versions` asks for it. A build that was
interrupted goes on where it was.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.cluster.toolchain import pins
from tests.cluster.toolchain.cache import cache_root, obtain, run
from tests.cluster.toolchain.errors import ToolchainError

_NAME = f"kubernetes-{pins.NEWER_VERSION}-r{pins.NEWER_RECIPE}"
_MODULE = "k8s.io/kubernetes"
#: A module of Kubernetes' own tree, as its go.mod requires it.
_IN_TREE = re.compile(r"^\t(k8s\.io/[a-z-]+) v0\.0\.0$", re.MULTILINE)
_VERSION_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")


def ensure() -> Path:
    """The directory with the newer kube-apiserver, built if need be."""
    return obtain(
        _NAME, what="building kube-apiserver (about 6 minutes on two idle cores)", build=_build
    )


def _build(target: Path) -> None:
    _require_go()
    work = cache_root() / "work" / _NAME
    work.mkdir(parents=True, exist_ok=True)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("KUBE")},
        "CGO_ENABLED": "0",
        "GOPATH": str(work / "gopath"),
        "GOCACHE": str(work / "gocache"),
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-modcacherw -trimpath -mod=mod",
    }
    wanted = f"{_MODULE}@v{pins.NEWER_VERSION}"
    (work / "go.mod").write_text("module ararat.test/kubernetes\n")
    found = subprocess.run(
        ["go", "mod", "download", "-json", wanted],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode != 0:
        raise ToolchainError(f"{_NAME}: {wanted} cannot be had: {found.stdout}{found.stderr}")
    (work / "go.mod").write_text(_go_mod(Path(json.loads(found.stdout)["GoMod"]).read_text()))
    run(
        [
            "go",
            "build",
            "-ldflags",
            f"-s -w {_defines()}",
            "-o",
            str(target / "kube-apiserver"),
            f"{_MODULE}/cmd/kube-apiserver",
        ],
        log=_NAME,
        cwd=work,
        env=environment,
    )
    shutil.rmtree(work)


def _require_go() -> None:
    wanted = ".".join(map(str, pins.NEWER_GO_MINIMUM))
    try:
        printed = subprocess.run(
            ["go", "version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise ToolchainError(f"{_NAME}: there is no Go on PATH; install {wanted} or newer") from (
            error
        )
    match = re.search(r"go(\d+)\.(\d+)", printed)
    if match is None or (int(match[1]), int(match[2])) < pins.NEWER_GO_MINIMUM:
        raise ToolchainError(f"{_NAME}: needs Go {wanted} or newer, and this is {printed.strip()}")


def _go_mod(theirs: str) -> str:
    """A main module that requires Kubernetes, and its parts from where they are published."""
    version = pins.NEWER_VERSION.split(".", 1)[1]
    lines = [
        "module ararat.test/kubernetes",
        f"go {'.'.join(map(str, pins.NEWER_GO_MINIMUM))}",
        f"require {_MODULE} v{pins.NEWER_VERSION}",
        *(f"replace {part} => {part} v0.{version}" for part in _IN_TREE.findall(theirs)),
    ]
    return "\n".join(lines) + "\n"


def _defines() -> str:
    major, minor, _ = pins.NEWER_VERSION.split(".")
    settings = {
        "gitVersion": f"v{pins.NEWER_VERSION}",
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "archive",
    }
    return " ".join(
        f"-X {package}.{name}={value}"
        for package in _VERSION_PACKAGES
        for name, value in settings.items()
    )
