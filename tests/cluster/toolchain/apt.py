"""A private apt directory, to read another suite or sources than the machine is set up for.

Problem: Kubernetes comes from a Debian *source* package and Go 1.19 from a given suite; the machine
may know neither, and its apt configuration is not ours to change.
Decision: ask apt which archive it already uses for Debian's main component, and write a sources
file for the wanted suite of that same archive into a directory of our own. No address is in the
project, and packages are unpacked, never installed.
Limits: needs a Debian machine whose archive still carries the wanted suite.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster.toolchain.cache import run
from tests.cluster.toolchain.errors import ToolchainError

KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
_PASSED_ON = re.compile(r'Acquire::(Check-|https?::|Retries|ForceIPv)[^"]* "[^"]+";')


@dataclass(frozen=True)
class _Target:
    suite: str
    uri: str


def _targets() -> list[_Target]:
    """Debian's own suites that this machine is set up for, as apt itself reads its settings."""
    listing = subprocess.run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(ORIGIN) $(COMPONENT) $(CODENAME) $(REPO_URI)",
            "Created-By: Packages",
        ],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    ).stdout
    fields = (line.split() for line in listing.splitlines())
    return [_Target(suite=f[2], uri=f[3]) for f in fields if f[:2] == ["Debian", "main"]]


def archive_uri() -> str:
    """The address of the archive this machine takes Debian's main component from."""
    for target in _targets():
        if "-" not in target.suite:
            return target.uri
    raise ToolchainError(
        "apt: no Debian archive is configured on this machine; run 'apt-get update', or point "
        "KUBEBUILDER_ASSETS at a directory with the Kubernetes programs"
    )


def sources_of(suite: str) -> str:
    """A sources file for *suite* and, where this machine has them, its updates."""
    main = _Target(suite=suite, uri=archive_uri())
    updates = [target for target in _targets() if target.suite.startswith(f"{suite}-")]
    return "\n".join(
        f"Types: deb\nURIs: {target.uri}\nSuites: {target.suite}\n"
        f"Components: main\nSigned-By: {KEYRING}\n"
        for target in (main, *updates)
    )


def acquire_settings() -> str:
    """How this machine's apt reaches an archive (proxies, certificates, checks of dates)."""
    dump = subprocess.run(
        ["apt-config", "dump"], stdout=subprocess.PIPE, text=True, check=False
    ).stdout
    lines = (line for line in dump.splitlines() if _PASSED_ON.match(line))
    return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True)
class PrivateApt:
    """apt with its own sources and state, for one suite, in one directory."""

    root: Path
    suite: str
    log: str

    def update(self) -> None:
        """Write the sources file and fetch its indexes."""
        for name in ("lists/partial", "cache/archives/partial", "parts"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        (self.root / "ararat.sources").write_text(
            "Types: deb deb-src\n"
            f"URIs: {archive_uri()}\n"
            f"Suites: {self.suite}\n"
            "Components: main\n"
            f"Signed-By: {KEYRING}\n"
        )
        self._apt_get("update", cwd=self.root)

    def source(self, package: str, *, into: Path) -> Path:
        """Fetch and unpack a source package below *into*; return its tree."""
        into.mkdir(parents=True, exist_ok=True)
        self._apt_get("source", "--only-source", package, cwd=into)
        trees = [path for path in into.iterdir() if path.is_dir()]
        if len(trees) != 1:
            raise ToolchainError(f"apt: the source package {package} did not unpack to one tree")
        return trees[0]

    def unpack(self, packages: list[str], *, into: Path) -> None:
        """Fetch binary packages and unpack them below *into*, without installing them."""
        archives = self.root / "debs"
        archives.mkdir(exist_ok=True)
        into.mkdir(parents=True, exist_ok=True)
        self._apt_get("download", *packages, cwd=archives)
        for package in packages:
            for archive in archives.glob(f"{package}_*.deb"):
                run(["dpkg-deb", "-x", str(archive), str(into)], log=self.log)

    def _apt_get(self, *arguments: str, cwd: Path) -> None:
        options = {
            "Dir::Etc::SourceList": str(self.root / "ararat.sources"),
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::Lists": str(self.root / "lists"),
            "Dir::Cache": str(self.root / "cache"),
            "APT::Sandbox::User": "root",
            "APT::Get::List-Cleanup": "false",
        }
        flags = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
        run(["apt-get", "-q", "-y", *flags, *arguments], log=self.log, cwd=cwd)
