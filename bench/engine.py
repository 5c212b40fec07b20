"""Our engine beside bare restic: ``python -m bench.engine --help``.

Each round takes one volume through four steps: first backup, unchanged second backup, backup after
one per cent has changed, restore. Every step is done by both contenders before the next one, in an
order that alternates from round to round, so that whatever else the machine does falls on both.
Ours is the product's own path (store, REST server, restic with the product's profile). The other
is ``restic backup .`` with default flags: to a directory, or to Azurite by its own Azure backend
over TLS. What is reported is the median of the rounds' ratios, native to ours: above 1, ours is
the faster.

Limits: the page cache is not dropped (the machine may be others' too); Azurite runs on the same
processors, so that its own work is part of every wall time there.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from azure.storage.blob import ContainerClient

from bench import measure, report, volumes
from bench.measure import Usage
from bench.report import Sample
from bench.volumes import Cell
from tests.cluster.azurite import SUFFIX, Azurite
from tests.cluster.toolchain import restic as toolchain

_SYSTEM = "/usr/sbin:/usr/bin:/sbin:/bin"
STEPS = ("first", "unchanged", "one per cent", "restore")


@dataclass
class Place:
    """Where backups go, seen from both contenders."""

    kind: str
    root: Path
    azurite: Azurite | None = None
    containers: list[str] = field(default_factory=list)

    def fresh(self, name: str) -> str:
        """A new directory or container."""
        made = f"{name}-{secrets.token_hex(4)}"
        if self.azurite is None:
            (self.root / made).mkdir(parents=True)
        else:
            self.azurite.create_container(made)
            self.containers.append(made)
        return made

    def stored(self, name: str) -> int:
        """Bytes in it."""
        if self.azurite is None:
            return sum(f.stat().st_size for f in (self.root / name).rglob("*") if f.is_file())
        with self._client(name) as client:
            return sum(blob.size for blob in client.list_blobs())

    def remove(self, name: str) -> None:
        if self.azurite is None:
            shutil.rmtree(self.root / name)
        else:
            with self._client(name) as client:
                client.delete_container()

    def _client(self, name: str) -> ContainerClient:
        assert self.azurite is not None
        return ContainerClient(
            self.azurite.endpoint,
            name,
            credential=self.azurite.key,
            connection_verify=str(self.azurite.ca_file),
        )


class Contender(Protocol):
    name: str

    def prepare(self) -> None: ...

    def backup(self, volume: Path) -> tuple[Usage, dict[str, Any]]: ...

    def restore(self, target: Path) -> tuple[Usage, dict[str, Any]]: ...

    def stored(self) -> int: ...

    def remove(self) -> None: ...


class Ours:
    name = "ours"

    def __init__(self, place: Place, work: Path) -> None:
        self._place = place
        self._where = place.fresh("ours")
        self._cache = work / f"cache-{self._where}"
        self._master = secrets.token_hex(32)
        self._snapshot: str | None = None

    def prepare(self) -> None:
        self._run("create")

    def backup(self, volume: Path) -> tuple[Usage, dict[str, Any]]:
        usage, said = self._run("backup", volume=str(volume))
        self._snapshot = said["snapshot"]
        return usage, said

    def restore(self, target: Path) -> tuple[Usage, dict[str, Any]]:
        return self._run("restore", target=str(target))

    def stored(self) -> int:
        return self._place.stored(self._where)

    def remove(self) -> None:
        self._place.remove(self._where)
        shutil.rmtree(self._cache, ignore_errors=True)

    def _run(self, work: str, **more: str) -> tuple[Usage, dict[str, Any]]:
        azurite = self._place.azurite
        if azurite is None:
            location: dict[str, Any] = {"filesystem": {"path": str(self._place.root / self._where)}}
        else:
            location = {
                "azure": {
                    "accountName": azurite.account,
                    "container": self._where,
                    "endpoint": azurite.endpoint,
                    "authentication": "AccountKey",
                    "credentialsSecret": "azure",
                    "caBundle": azurite.ca_pem,
                }
            }
        spec = {
            "work": work,
            "location": location,
            "secret": {"accountKey": azurite.key} if azurite else {},
            "master": self._master,
            "cache": str(self._cache),
            "snapshot": self._snapshot,
            **more,
        }
        env = {
            "PATH": _SYSTEM,
            "PYTHONPATH": str(Path(__file__).parent.parent),
            "ARARAT_RESTIC": str(toolchain.ensure()),
            # As in the agent's image.
            "MALLOC_ARENA_MAX": "2",
            "MALLOC_MMAP_THRESHOLD_": "1048576",
            "MALLOC_TRIM_THRESHOLD_": "8388608",
        }
        used, printed = measure.run(
            [sys.executable, "-m", "bench.ours"], env=env, cwd=Path("/"), stdin=json.dumps(spec)
        )
        said = json.loads(printed.splitlines()[-1])
        return Usage(said["wall"], said["cpu"], used.peak), said


class Native:
    name = "restic"

    def __init__(self, place: Place, work: Path) -> None:
        self._place = place
        self._where = place.fresh("restic")
        self._work = work
        self._cache = work / f"cache-{self._where}"
        self._restic = str(toolchain.ensure())

    def prepare(self) -> None:
        self._run(["init"], self._work)

    def backup(self, volume: Path) -> tuple[Usage, dict[str, Any]]:
        return self._run(["backup", "."], volume)

    def restore(self, target: Path) -> tuple[Usage, dict[str, Any]]:
        return self._run(["restore", "latest", "--target=."], target)

    def stored(self) -> int:
        return self._place.stored(self._where)

    def remove(self) -> None:
        self._place.remove(self._where)
        shutil.rmtree(self._cache, ignore_errors=True)

    def _run(self, command: list[str], cwd: Path) -> tuple[Usage, dict[str, Any]]:
        azurite = self._place.azurite
        env = {
            "PATH": _SYSTEM,
            "RESTIC_PASSWORD": "bench",
            "RESTIC_CACHE_DIR": str(self._cache),
            "RESTIC_PROGRESS_FPS": "1",
            "TMPDIR": str(self._work),
        }
        if azurite is None:
            env["RESTIC_REPOSITORY"] = str(self._place.root / self._where)
            return measure.run([self._restic, *command], env=env, cwd=cwd)[0], {}
        env |= {
            "AZURE_ACCOUNT_NAME": azurite.account,
            "AZURE_ACCOUNT_KEY": azurite.key,
            "AZURE_ENDPOINT_SUFFIX": f"{SUFFIX.removeprefix('blob.')}:{azurite.port}",
            "RESTIC_CACERT": str(azurite.ca_file),
            "RESTIC_REPOSITORY": f"azure:{self._where}:/",
        }
        hosts = self._work / "hosts"
        hosts.write_text(f"127.0.0.1 localhost {azurite.account}.{SUFFIX}\n")
        # The backend insists on host-style names; Azurite refuses the empty access tier.
        line = f'mount --bind {hosts} /etc/hosts && exec {self._restic} "$@"'
        argv = ["unshare", "--mount", "sh", "-c", line, "sh", "-o", "azure.access-tier=Hot"]
        return measure.run([*argv, *command], env=env, cwd=cwd)[0], {}


@contextmanager
def place(kind: str, work: Path) -> Iterator[Place]:
    if kind == "filesystem":
        yield Place(kind, work / "repositories")
        return
    # Not in memory: several gigabytes would be taken from whatever else runs here.
    with Azurite(directory=work / "azurite") as azurite:
        yield Place(kind, work, azurite)


def one_round(
    cell: Cell, kind: str, *, scale: float, number: int, work: Path, steps: tuple[str, ...]
) -> Iterator[Sample]:
    """One volume through all steps, by both."""
    volume = work / f"volume-{cell}"
    if not volume.exists():
        volumes.fill(volume, cell, scale)
    with place(kind, work / f"{kind}-{cell}-{number}") as where:
        contenders: list[Contender] = [Ours(where, work), Native(where, work)]
        for contender in contenders:
            contender.prepare()
        if number % 2:
            contenders.reverse()
        for step in steps:
            if step == "one per cent":
                volumes.change(volume, cell, scale, seed=2 + 2 * number + (kind == "azurite"))
            for contender in contenders:
                before = contender.stored()
                if step == "restore":
                    target = work / "target"
                    target.mkdir()
                    usage, said = contender.restore(target)
                    _compare(volume, target)
                    shutil.rmtree(target)
                else:
                    usage, said = contender.backup(volume)
                sample = Sample(
                    cell=cell.value,
                    store=kind,
                    step=step,
                    round=number,
                    contender=contender.name,
                    wall=usage.wall,
                    cpu=usage.cpu,
                    peak=usage.peak,
                    stored=contender.stored() - before,
                    details=said,
                )
                print(report.line(sample), file=sys.stderr, flush=True)
                yield sample
        for contender in contenders:
            contender.remove()
    shutil.rmtree(work / f"{kind}-{cell}-{number}", ignore_errors=True)


def _compare(volume: Path, target: Path) -> None:
    """A benchmark of a restore that restores nothing would be fast."""

    def sizes(root: Path) -> dict[str, int]:
        return {
            str(path.relative_to(root)): path.stat().st_size
            for path in root.rglob("*")
            if path.is_file()
        }

    if sizes(volume) != sizes(target):
        raise measure.Failed("what was restored is not what was backed up")


def _cells(text: str) -> list[Cell]:
    return [Cell(letter) for letter in text.replace(",", "")]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument(
        "--cells",
        type=_cells,
        default="abc",
        help="a: small files, b: large, c: tiny, d: a single one (default: abc)",
    )
    parser.add_argument("--stores", default="filesystem,azurite", metavar="LIST")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size")
    parser.add_argument("--rounds", type=int, default=3, help="how often each cell is done")
    parser.add_argument("--steps", type=int, default=4, help=f"the first so many of {STEPS}")
    parser.add_argument("--output", type=Path, help="writes OUTPUT.json and OUTPUT.md")
    parser.add_argument("--work", type=Path, help="directory for volumes and repositories")
    chosen = parser.parse_args()
    samples: list[Sample] = []
    with ExitStack() as stack:
        work = chosen.work or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="ararat-bench-"))
        )
        work.mkdir(exist_ok=True)
        for number in range(chosen.rounds):
            for cell in chosen.cells:
                for kind in chosen.stores.split(","):
                    samples += one_round(
                        cell,
                        kind,
                        scale=chosen.scale,
                        number=number,
                        work=work,
                        steps=STEPS[: chosen.steps],
                    )
    machine = report.machine()
    text = report.markdown(
        samples, machine=machine, scale=chosen.scale, rounds=chosen.rounds, steps=STEPS
    )
    print(text)
    if chosen.output is not None:
        chosen.output.parent.mkdir(parents=True, exist_ok=True)
        data = {
            "machine": machine,
            "scale": chosen.scale,
            "rounds": chosen.rounds,
            "load": os.getloadavg(),
            "samples": [asdict(sample) for sample in samples],
        }
        chosen.output.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n")
        chosen.output.with_suffix(".md").write_text(text + "\n")


if __name__ == "__main__":
    main()
