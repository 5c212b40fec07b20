"""Images from Dockerfiles, built for real with buildah, without a registry.

Problem: the project's Dockerfiles start from images that cannot be pulled on every machine, and
what they install comes over the machine's own settings for apt and pip, which must not end up in an
image or in the project.
Decision: buildah with a storage of its own in the cache. A base image is pulled where that works;
where it does not, a stand-in *of the same name* is made: Debian by debootstrap, Python from
Debian's packages upon it, restic from the toolchain. apt's sources, pip's settings and the
certificates are mounted while building, never copied. A result is kept by the hash of the
Dockerfile and of all it copies, so a warm build only hashes. buildah leaves its storage mounted, so
it runs in a mount namespace of its own, and its mounts end with it.
Limits: buildah 1.28 knows no heredocs in Dockerfiles and no `COPY --link`. A stand-in has Debian's
Python 3.11 and is larger than the image it stands for.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.cluster.errors import ClusterError
from tests.cluster.images import Image, store
from tests.cluster.toolchain import cache_root, restic, system
from tests.cluster.toolchain.apt import KEYRING, acquire_settings, archive_uri, sources_of
from tests.cluster.toolchain.cache import lock, obtain, run, say

DEBIAN: Final = "debian:bookworm-slim"
PYTHON: Final = "python:3.11-slim-bookworm"
RESTIC: Final = "restic/restic:0.19.1"

_SUITE = "bookworm"
_RECIPE = 1
_PULL_SECONDS = 30
_KEPT_ARCHIVES = 4
_KEPT_SECONDS = 4 * 3600.0
_LOG = "images"
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_APT_INSTALL = (
    "apt-get -q update && apt-get -q -y install --no-install-recommends {packages} "
    "&& rm -rf /var/lib/apt/lists/* /var/cache/apt/*"
)
# pip's settings that say how an index is reached, and nothing else of what a user may have set.
_PIP_SETTINGS = frozenset(
    {
        "index-url",
        "extra-index-url",
        "find-links",
        "trusted-host",
        "proxy",
        "default-timeout",
        "timeout",
        "retries",
    }
)


def build_image(dockerfile: Path, *, name: str, context: Path | None = None) -> Image:
    """Build a Dockerfile; its reference is `ararat.test/NAME:<hash of what went into it>`."""
    system.ensure()
    context = context or dockerfile.parent
    text = dockerfile.read_text()
    return _build(name, text=text, context=context, inputs=_copied(text, context=context))


def _build(name: str, *, text: str, context: Path, inputs: list[Path]) -> Image:
    key = _key(name, text=text, context=context, inputs=inputs)
    image = Image(reference=f"ararat.test/{name}:{key}", archive=store() / f"{name}-{key}.tar")
    if image.archive.exists():
        return image
    with lock("buildah"):
        if image.archive.exists():
            return image
        for base in _bases(text):
            _ensure_base(base)
        say(f"image {name}: building (log: {cache_root() / 'logs' / (_LOG + '.log')})")
        _bud(text, reference=image.reference, context=context)
        _save(image)
        _forget_older(name)
    return image


def _forget_older(name: str) -> None:
    """Remove old archives of an image but the newest: others may be in use by other runs."""
    pattern = re.compile(rf"{re.escape(name)}-[0-9a-f]{{16}}")
    archives = [path for path in store().glob(f"{name}-*.tar") if pattern.fullmatch(path.stem)]
    for older in sorted(archives, key=lambda path: path.stat().st_mtime)[:-_KEPT_ARCHIVES]:
        if time.time() - older.stat().st_mtime > _KEPT_SECONDS:
            older.unlink()


def _key(name: str, *, text: str, context: Path, inputs: list[Path]) -> str:
    digest = hashlib.sha256(f"{_RECIPE}\0{name}\0{text}".encode())
    for path in inputs:
        digest.update(f"\0{path.relative_to(context)}\0{path.stat().st_mode:o}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _copied(text: str, *, context: Path) -> list[Path]:
    """The files of *context* that the Dockerfile copies."""
    found: set[Path] = set()
    for name, words in _instructions(text):
        if name not in {"COPY", "ADD"} or any(word.startswith("--from=") for word in words):
            continue
        for source in [word for word in words if not word.startswith("--")][:-1]:
            matches = list(context.glob(source.strip("/") or "."))
            if not matches:
                raise ClusterError(f"the Dockerfile copies {source}, which {context} does not have")
            for match in matches:
                found.update(match.rglob("*") if match.is_dir() else [match])
    return sorted(p for p in found if p.is_file() and "__pycache__" not in p.parts)


def _bases(text: str) -> list[str]:
    """The images a Dockerfile starts from or copies from, without its own stages."""
    stages: set[str] = {"scratch"}
    found: list[str] = []
    for name, words in _instructions(text):
        if name == "FROM":
            plain = [word for word in words if not word.startswith("--")]
            found.append(plain[0])
            stages.update(plain[2:3])
        elif name == "COPY":
            found += [w.removeprefix("--from=") for w in words if w.startswith("--from=")]
    return [base for base in dict.fromkeys(found) if base not in stages and not base.isdigit()]


def _instructions(text: str) -> list[tuple[str, list[str]]]:
    """The instructions that name files or images, with their words."""
    joined = re.sub(r"\\\n", " ", text)
    pattern = re.compile(r"(?im)^\s*(FROM|COPY|ADD)\s+(.+)$")
    return [(match[1].upper(), shlex.split(match[2])) for match in pattern.finditer(joined)]


def _ensure_base(reference: str) -> None:
    """Have a base image in the storage: pulled, else a stand-in of the same name."""
    if _present(reference) or _pull(reference):
        return
    make = _STAND_INS.get(reference)
    if make is None:
        raise ClusterError(
            f"the image {reference} can neither be pulled here nor has it a stand-in; "
            f"use one of {', '.join(_STAND_INS)}, or add a stand-in to builder.py"
        )
    say(f"image {reference}: cannot be pulled here, making a stand-in")
    make()


def _present(reference: str) -> bool:
    return _quiet([*_buildah(), "inspect", "--type", "image", reference])


def _pull(reference: str) -> bool:
    return _quiet(["timeout", str(_PULL_SECONDS), *_buildah(), "pull", "--quiet", reference])


def _quiet(argv: list[str]) -> bool:
    done = subprocess.run(argv, env=_environment(), capture_output=True, check=False)
    return done.returncode == 0


def _make_debian() -> None:
    def bootstrap(target: Path) -> None:
        root = target / "root"
        settings = ["--variant=minbase", f"--keyring={KEYRING}", "--include=ca-certificates"]
        run(["debootstrap", *settings, _SUITE, str(root), archive_uri()], log=_LOG)
        _make_neutral(root)
        archive = str(target / "rootfs.tar")
        run(["tar", "-C", str(root), "--xattrs", "--numeric-owner", "-cf", archive, "."], log=_LOG)
        shutil.rmtree(root)

    made = obtain(
        f"debian-{_SUITE}-r{_RECIPE}", what="debootstrap (about 30 seconds)", build=bootstrap
    )
    text = 'FROM scratch\nADD rootfs.tar /\nCMD ["/bin/bash"]\n'
    _bud(text, reference=DEBIAN, context=made)


def _make_neutral(root: Path) -> None:
    """Take out what came from this machine, and keep services from starting in builds."""
    (root / "etc/apt/sources.list").unlink(missing_ok=True)
    for name in ("etc/resolv.conf", "etc/hostname"):
        (root / name).write_text("")
    for pattern in ("var/cache/apt/archives/*.deb", "var/lib/apt/lists/*_*", "var/log/*.log"):
        for path in root.glob(pattern):
            path.unlink()
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)


def _make_python() -> None:
    _ensure_base(DEBIAN)
    install = _APT_INSTALL.format(packages="python3 python3-venv python3-pip")
    text = (
        f"FROM {DEBIAN}\n"
        f"RUN {install}\n"
        "RUN ln -s /usr/bin/python3 /usr/local/bin/python3"
        " && ln -s /usr/bin/python3 /usr/local/bin/python"
        " && ln -s /usr/bin/pip3 /usr/local/bin/pip"
        " && rm -f /usr/lib/python3*/EXTERNALLY-MANAGED\n"
        'CMD ["python3"]\n'
    )
    with tempfile.TemporaryDirectory() as context:
        _bud(text, reference=PYTHON, context=Path(context))


def _make_restic() -> None:
    with tempfile.TemporaryDirectory() as context:
        shutil.copy(restic.ensure(), Path(context) / "restic")
        text = 'FROM scratch\nCOPY restic /usr/bin/restic\nENTRYPOINT ["/usr/bin/restic"]\n'
        _bud(text, reference=RESTIC, context=Path(context))


_STAND_INS: dict[str, Callable[[], None]] = {
    DEBIAN: _make_debian,
    PYTHON: _make_python,
    RESTIC: _make_restic,
}


def _bud(text: str, *, reference: str, context: Path) -> None:
    with tempfile.TemporaryDirectory() as passed:
        directory = Path(passed)
        (directory / "Dockerfile").write_text(text)
        volumes = [
            f"--volume={source}:{target}:ro" for target, source in _settings(directory).items()
        ]
        run(
            [
                *_buildah(),
                "bud",
                "--layers",
                "--pull-never",
                "--isolation=chroot",
                "--format=docker",
                *volumes,
                f"--file={directory / 'Dockerfile'}",
                f"--tag={reference}",
                str(context),
            ],
            log=_LOG,
            env=_environment(),
        )


def _settings(directory: Path) -> dict[str, Path]:
    """What a build is shown of this machine, by its path in the image."""
    (directory / "debian.sources").write_text(sources_of(_SUITE))
    (directory / "apt.conf").write_text(acquire_settings())
    settings = {
        "/etc/apt/sources.list.d/debian.sources": directory / "debian.sources",
        "/etc/apt/apt.conf.d/99ararat-build": directory / "apt.conf",
    }
    pip, directories = _pip_settings()
    with (directory / "pip.conf").open("w") as file:
        pip.write(file)
    settings["/etc/pip.conf"] = directory / "pip.conf"
    if Path(_CERTIFICATES).exists():
        settings[_CERTIFICATES] = Path(_CERTIFICATES)
    return {**settings, **{str(path): path for path in directories}}


def _pip_settings() -> tuple[configparser.RawConfigParser, list[Path]]:
    """pip's way to an index, from its files and its environment, and local directories in it."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    parser = configparser.RawConfigParser()
    parser["global"] = {"cert": _CERTIFICATES}
    directories: list[Path] = []
    # Settings of the environment come first in the list and win.
    for line in reversed(listing.splitlines()):
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        if key in _PIP_SETTINGS:
            parser["global"][key] = value.strip("'\"")
    for word in parser["global"].get("find-links", "").split():
        if Path(word).is_dir():
            directories.append(Path(word))
    return parser, directories


def _save(image: Image) -> None:
    partial = image.archive.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    target = f"docker-archive:{partial}:{image.reference}"
    run([*_buildah(), "push", image.reference, target], log=_LOG, env=_environment())
    partial.rename(image.archive)


def _buildah() -> list[str]:
    directory = _directory()
    return [
        "unshare",
        "--mount",
        "--propagation=private",
        "buildah",
        f"--root={directory / 'storage'}",
        f"--runroot={directory / 'run'}",
        "--storage-driver=overlay",
    ]


def _environment() -> dict[str, str]:
    scratch = _directory() / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    return {**os.environ, "TMPDIR": str(scratch)}


def _directory() -> Path:
    # By recipe, so that stand-ins of an older recipe are not taken for today's.
    return cache_root() / f"buildah-r{_RECIPE}"
