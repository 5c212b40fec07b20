"""Container images as files: references, docker archives, and two tiny images made of busybox.

Problem: there is no registry to pull from.
Decision: an image is a docker archive in the cache, named by the hash of all that went into it, and
is loaded into each node's containerd. The tiny ones are put together here by hand, with one layer;
`builder.py` makes those that come from a Dockerfile.
Limits: amd64 and arm64 hosts; images run only on machines of the kind that made them.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.errors import ClusterError
from tests.cluster.toolchain import cache_root
from tests.cluster.toolchain.cache import lock

_RECIPE = 1
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Image:
    """An image that can be loaded into nodes."""

    reference: str
    archive: Path

    @property
    def key(self) -> str:
        """Different for every content and reference."""
        return self.archive.stem


def store() -> Path:
    """Where image archives are kept."""
    directory = cache_root() / "images"
    directory.mkdir(exist_ok=True)
    return directory


def architecture() -> str:
    """The machine's architecture in the words of image configurations."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def pause_image() -> Image:
    """What holds a pod's namespaces: it sleeps."""
    return _busybox_image(
        "ararat.test/pause:1", links=(), command=["/bin/busybox", "sleep", "2147483647"]
    )


def busybox_image() -> Image:
    """A shell and the usual small programs, for pods of tests.

    Its wget cannot look up names (a static glibc cannot); use addresses, or `nc`.
    """
    links = "sh cat ls stat ps id env echo sleep test touch mkdir rm mv cp ln dd df mount head tail"
    links += " grep sed awk cut wc sort find tar chmod chown date sync true false nc httpd wget ip"
    links += " md5sum sha256sum seq printf hostname mktemp readlink truncate xargs sleep"
    return _busybox_image(
        "ararat.test/busybox:1", links=tuple(sorted(set(links.split()))), command=["/bin/sh"]
    )


def _busybox_image(reference: str, *, links: tuple[str, ...], command: list[str]) -> Image:
    program = shutil.which("busybox")
    if program is None:
        raise ClusterError(
            "busybox is not installed; run 'python3 -m tests.cluster.toolchain system'"
        )
    content = Path(program).read_bytes()
    if b"/ld-linux" in content[:4096]:
        raise ClusterError("busybox is not static; install the package busybox-static")
    parts = [content, json.dumps([_RECIPE, reference, links, command]).encode()]
    key = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    archive = store() / f"{key}.tar"
    if not archive.exists():
        with lock(f"image-{key}"):
            layer = _layer(content, links=links)
            partial = archive.with_suffix(".partial")
            write_archive(partial, reference=reference, layer=layer, command=command)
            partial.rename(archive)
    return Image(reference=reference, archive=archive)


def _layer(busybox: bytes, *, links: tuple[str, ...]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        for name, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("root", 0o700)):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, mode
            layer.addfile(directory)
        _add_file(layer, "bin/busybox", content=busybox, mode=0o755)
        for name in links:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            layer.addfile(link)
        passwd = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
        _add_file(layer, "etc/passwd", content=passwd)
        _add_file(layer, "etc/group", content=b"root:x:0:\nnogroup:x:65534:\n")
    return buffer.getvalue()


def write_archive(path: Path, *, reference: str, layer: bytes, command: list[str]) -> None:
    """Write a docker archive with one layer."""
    configuration = json.dumps(
        {
            "architecture": architecture(),
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {"Cmd": command, "Env": ["PATH=/usr/local/bin:/usr/bin:/bin:/sbin"]},
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"],
            },
        }
    ).encode()
    name = f"{hashlib.sha256(configuration).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": [reference], "Layers": ["layer.tar"]}]
    with tarfile.open(path, mode="w") as archive:
        _add_file(archive, name, content=configuration)
        _add_file(archive, "layer.tar", content=layer)
        _add_file(archive, "manifest.json", content=json.dumps(manifest).encode())


def _add_file(archive: tarfile.TarFile, name: str, *, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))
