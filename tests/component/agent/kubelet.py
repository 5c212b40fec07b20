"""What a kubelet leaves on a node's disk, made with real mounts.

Limits: needs root. Mounts are made in this process's own mount namespace and are taken away, and
checked to be gone, by ``close``.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from ararat.gate import VOLUME


class FakeKubelet:
    def __init__(self, root: Path) -> None:
        self.root = root.resolve() / "kubelet"
        self._disks = root.resolve() / "disks"
        self._mounted: list[Path] = []
        self._images: dict[Path, Path] = {}
        (self.root / "pods").mkdir(parents=True)
        self._disks.mkdir()

    def volume(self, pod_uid: str, *parts: str) -> Path:
        path = self.root.joinpath("pods", pod_uid, "volumes", *parts)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def csi(self, pod_uid: str, pv: str, *, mount: bool = True) -> Path:
        """A claim's volume: a directory of its own, bound where CSI puts it."""
        path = self.volume(pod_uid, "kubernetes.io~csi", pv, "mount")
        if mount:
            self.bind(pv, path)
        return path

    def disk(self, pv: str) -> Path:
        """What is behind the volume, whatever is mounted where."""
        path = self._disks / pv
        path.mkdir(exist_ok=True)
        return path

    def bind(self, pv: str, path: Path) -> None:
        subprocess.run(["mount", "--bind", str(self.disk(pv)), str(path)], check=True)
        self._mounted.append(path)

    def tmpfs(self, path: Path, *, options: str = "size=16m") -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], check=True)
        self._mounted.append(path)

    def formatted(self, path: Path, kind: str) -> None:
        """A file system of its own, as a disk has one."""
        if kind == "tmpfs":
            self.tmpfs(path, options="size=64m")
            return
        image = self._disks / f"{len(self._mounted)}.{kind}"
        self._images[path] = image
        # mkfs.xfs makes nothing smaller than 300 MiB; the file is sparse.
        with image.open("wb") as file:
            file.truncate(512 << 20)
        subprocess.run([f"mkfs.{kind}", "-q", str(image)], check=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(path)], check=True)
        self._mounted.append(path)

    def image(self, path: Path) -> Path:
        """The disk under a formatted volume."""
        return self._images[path]

    def unmount(self, path: Path) -> None:
        subprocess.run(["umount", "-l", str(path)], check=True)
        self._mounted.remove(path)

    def empty_dir(self, pod_uid: str, name: str) -> Path:
        return self.volume(pod_uid, "kubernetes.io~empty-dir", name)

    def gate(self, pod_uid: str) -> Path:
        return self.empty_dir(pod_uid, VOLUME)

    def answer(self, pod_uid: str, volume: str = "data") -> dict[str, Any]:
        """What the agent has told the gate; empty before it said anything."""
        try:
            found: dict[str, Any] = json.loads((self.gate(pod_uid) / f"{volume}.json").read_text())
        except FileNotFoundError:
            return {}
        return found

    def close(self) -> None:
        for path in reversed(list(self._mounted)):
            self.unmount(path)
        assert str(self.root) not in Path("/proc/self/mountinfo").read_text()
