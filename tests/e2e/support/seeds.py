"""Gives nodes their images by hard links, instead of importing them again and again.

Problem: importing a gigabyte of images takes a node half a minute, each cluster has two nodes, and
the demo has two clusters; that alone would be half of its time.
Decision: containerd's directory of a node that has the images is kept in the cache as a *seed*, and
linked into the nodes of later clusters. containerd never changes a blob or a layer in place; its
databases, which it does change, are copied. A seed for other images starts from the one that has
most of them already, so after a change of the product only its own images are imported.
Limits: before any pod runs on the node, because containerd is stopped for a second. Images that a
seed's ancestors had stay in it, so a line of seeds is begun anew after some generations.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.cluster import Cluster
from tests.cluster.images import Image, pause_image
from tests.cluster.node import Node
from tests.cluster.toolchain import cache_root
from tests.cluster.toolchain.cache import lock

_RECIPE = 1
_GENERATIONS = 5
_KEPT = 4
_RECORD = "seed.json"
_ROOT = "var/lib/containerd"


@dataclass(frozen=True)
class _Seed:
    path: Path
    names: frozenset[str]
    generation: int


def load(cluster: Cluster, images: Mapping[str, Image]) -> None:
    """Give every node *images*, each under the name it is published by."""
    wanted = {name: image.key for name, image in images.items()}
    text = json.dumps([_RECIPE, sorted(wanted.items()), pause_image().key])
    path = _directory() / hashlib.sha256(text.encode()).hexdigest()[:16]
    with lock("seeds"):
        first, *others = cluster.nodes
        if path.exists():
            others = [first, *others]
        else:
            _make(first, images, path)
        (path / _RECORD).touch()
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda node: _fill(node, path), others))
        _forget_old()


def _make(node: Node, images: Mapping[str, Image], path: Path) -> None:
    """Import what the nearest seed lacks, and keep the result as a seed."""
    wanted = frozenset(f"{name}={image.key}" for name, image in images.items())
    seeds = [seed for seed in _seeds() if seed.generation < _GENERATIONS]
    nearest = max(seeds, key=lambda seed: len(seed.names & wanted), default=None)
    have: frozenset[str] = frozenset()
    generation = 0
    if nearest is not None and nearest.names & wanted:
        _fill(node, nearest.path)
        have, generation = nearest.names, nearest.generation + 1
    for name, image in images.items():
        if f"{name}={image.key}" not in have:
            node.load_image(image)
            command = ("ctr", "-n", "k8s.io", "images", "tag", "--force")
            node.run(*command, image.reference, f"docker.io/{_qualified(name)}")
    node.containerd.stop()
    try:
        partial = path.with_name(f"{path.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        _link(node.plan.directory / _ROOT, partial / "containerd")
        record = {"names": sorted(wanted), "generation": generation}
        (partial / _RECORD).write_text(json.dumps(record))
        partial.rename(path)
    finally:
        node.start_containerd()


def _fill(node: Node, seed: Path) -> None:
    node.containerd.stop()
    try:
        shutil.rmtree(node.plan.directory / _ROOT, ignore_errors=True)
        _link(seed / "containerd", node.plan.directory / _ROOT)
    finally:
        node.start_containerd()


def _link(source: Path, target: Path) -> None:
    """The same tree by hard links; databases as copies. *source* must be at rest."""
    target.mkdir(parents=True)
    subprocess.run(["cp", "-al", f"{source}/.", f"{target}/"], check=True)
    for database in target.rglob("*.db"):
        if database.is_file() and "snapshots" not in database.relative_to(target).parts:
            original = source / database.relative_to(target)
            database.unlink()
            shutil.copy2(original, database)


def _seeds() -> list[_Seed]:
    found: list[_Seed] = []
    for record in _directory().glob(f"*/{_RECORD}"):
        document = json.loads(record.read_text())
        if not record.parent.name.endswith(".partial"):
            names = frozenset(document["names"])
            found.append(_Seed(record.parent, names, document["generation"]))
    return found


def _forget_old() -> None:
    by_age = sorted(_directory().glob(f"*/{_RECORD}"), key=lambda path: path.stat().st_mtime)
    for record in by_age[:-_KEPT]:
        shutil.rmtree(record.parent, ignore_errors=True)


def _directory() -> Path:
    directory = cache_root() / "seeds"
    directory.mkdir(exist_ok=True)
    return directory


def _qualified(name: str) -> str:
    return name if "/" in name else f"library/{name}"
