"""kube-apiserver, controller manager, scheduler, kubelet and kube-proxy, built from source.

Problem: the tests need a real Kubernetes, and there is no container registry to take one from.
Decision: Debian 12 ships the whole Kubernetes 1.20.2 tree, vendored modules included, as a source
package; it is built with the Go 1.19 of the same release, unpacked beside it. Somebody with other
programs points KUBEBUILDER_ASSETS at a directory that has them.
Limits: 1.20 lacks newer API versions (CronJob v1, PodDisruptionBudget v1, CEL in CRDs).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.cluster.toolchain import pins, system
from tests.cluster.toolchain.apt import PrivateApt
from tests.cluster.toolchain.cache import obtain, run
from tests.cluster.toolchain.errors import ToolchainError

_NAME = f"kubernetes-{pins.KUBERNETES_VERSION}-r{pins.KUBERNETES_RECIPE}"
_REFLECT2 = Path("github.com/modern-go/reflect2")
_TYPE_VALIDATOR = Path("k8s.io/kube-openapi/pkg/validation/validate/type.go")
_KUBELET = Path("pkg/kubelet/kubelet.go")
#: How often the kubelet clears away dead sandboxes.
_SWEEP = "ContainerGCPeriod = time.Minute"
#: How the vendored validator asks whether a value is its type's zero value.
_ZERO_TEST = "reflect.DeepEqual(reflect.Zero(reflect.TypeOf(data)), reflect.ValueOf(data))"
_VERSION_PACKAGES = (
    "k8s.io/kubernetes/vendor/k8s.io/component-base/version",
    "k8s.io/kubernetes/vendor/k8s.io/client-go/pkg/version",
)


def ensure() -> Path:
    """The directory with the Kubernetes programs, built if need be."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets:
        directory = Path(assets)
        absent = [name for name in pins.KUBERNETES_PROGRAMS[:1] if not (directory / name).is_file()]
        if absent:
            raise ToolchainError(
                f"kubernetes: KUBEBUILDER_ASSETS={assets} has no {absent[0]}; "
                "correct it or unset it to build from source"
            )
        return directory
    return (
        obtain(
            _NAME,
            what="building five programs from Debian's source package "
            "(about 7 minutes on two idle cores)",
            build=_build,
        )
        / "bin"
    )


def _build(target: Path) -> None:
    system.ensure()
    work = target / "work"
    apt = PrivateApt(root=work / "apt", suite=pins.KUBERNETES_SUITE, log=_NAME)
    apt.update()
    tree = apt.source("kubernetes", into=work / "source")
    unpacked = work / "root"
    go_package = f"golang-{pins.KUBERNETES_GO}"
    apt.unpack(
        [f"{go_package}-go", f"{go_package}-src", "golang-github-modern-go-reflect2-dev"],
        into=unpacked,
    )
    _replace_reflect2(tree, packaged=unpacked / "usr/share/gocode/src" / _REFLECT2)
    _accept_empty_strings(tree)
    _sweep_often(tree)
    environment = _go_environment(unpacked / "usr/lib" / f"go-{pins.KUBERNETES_GO}", work=work)
    run(["make", "gen_openapi"], log=_NAME, cwd=tree, env=environment)
    _compile(tree, environment=environment, work=work, output=target / "bin")
    shutil.rmtree(work)


def _replace_reflect2(tree: Path, *, packaged: Path) -> None:
    """Put Debian's reflect2 in place of the vendored one.

    The vendored version reads Go's internals as they were before 1.18 and crashes kube-apiserver
    on the first custom resource.
    """
    vendored = tree / "vendor" / _REFLECT2
    for old in vendored.iterdir():
        if old.suffix in {".go", ".s"}:
            old.unlink()
    for new in packaged.iterdir():
        if new.suffix in {".go", ".s"} and not new.name.endswith("_test.go"):
            shutil.copy(new, vendored / new.name)


def _accept_empty_strings(tree: Path) -> None:
    """Keep the API server from taking empty strings in custom resources for null.

    The vendored validator (custom resources meet kube-openapi's copy of it) compares two
    reflect.Value structs, which were never equal with the Go of its time. Since Go 1.16 an empty
    string and its type's zero value share their address, so they are equal, and a custom resource
    with an empty string is refused.
    """
    _replace(tree / "vendor" / _TYPE_VALIDATOR, _ZERO_TEST, "false")


def _sweep_often(tree: Path) -> None:
    """Have pods gone seconds after their containers, as in every release but the first of 1.20.

    1.20 began to keep a pod until its sandbox is removed, which often nobody does but the sweep
    that comes once a minute (kubernetes/kubernetes#97288).
    """
    _replace(tree / _KUBELET, _SWEEP, "ContainerGCPeriod = 2 * time.Second")


def _replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    if old not in text:
        raise ToolchainError(f"kubernetes: {file.name} is not as expected; mend the recipe")
    file.write_text(text.replace(old, new))


def _go_environment(goroot: Path, *, work: Path) -> dict[str, str]:
    """A Go environment that owes nothing to the user's own Go settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GO", "KUBE"))}
    home = work / "home"
    home.mkdir()
    return {
        **kept,
        "HOME": str(home),
        "PATH": f"{goroot / 'bin'}:{kept.get('PATH', '')}",
        "GOROOT": str(goroot),
        "GOCACHE": str(work / "gocache"),
        "CGO_ENABLED": "0",
    }


def _compile(tree: Path, *, environment: dict[str, str], work: Path, output: Path) -> None:
    gopath = work / "gopath"
    linked = gopath / "src/k8s.io/kubernetes"
    linked.parent.mkdir(parents=True)
    linked.symlink_to(tree)
    output.mkdir()
    major, minor, _ = pins.KUBERNETES_VERSION.split(".")
    settings = {
        "gitVersion": f"v{pins.KUBERNETES_VERSION}",
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "archive",
    }
    defines = " ".join(
        f"-X {package}.{name}={value}"
        for package in _VERSION_PACKAGES
        for name, value in settings.items()
    )
    run(
        [
            "go",
            "build",
            "-trimpath",
            "-ldflags",
            f"-s -w {defines}",
            "-o",
            f"{output}/",
            *(f"k8s.io/kubernetes/cmd/{program}" for program in pins.KUBERNETES_PROGRAMS),
        ],
        log=_NAME,
        cwd=linked,
        env={
            **environment,
            "GOPATH": str(gopath),
            "GO111MODULE": "off",
            "GOFLAGS": "",
            "PWD": str(linked),
        },
    )
