"""Linux namespaces, held by a keeper: the first process of a process-id namespace.

Problem: a cluster on one machine makes processes, mounts, bridges, routes and iptables rules; all
of them have to be gone afterwards, also when the harness was killed.
Decision: a cluster is one keeper with its own process-id, mount and network namespaces; every
node is a keeper inside it, with its own ones again. When a keeper is killed the kernel kills
whatever runs in it, and with the last process go the mounts, interfaces, routes and rules. So
taking a cluster down is killing one process. The cgroups and files that remain are removed by name.
Limits: needs root.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from tests.cluster.errors import ClusterError
from tests.cluster.process import Entry, Service, here, run

_KINDS = ("--net", "--mount", "--pid", "--uts", "--ipc")
_UNSHARE_OPTIONS = ("--fork", "--kill-child", "--mount-proc", "--")
_READY_TIMEOUT = 20.0


def name_resolution(*, resolver: Path, hosts: Path) -> str:
    """The shell script that puts these files in place of this machine's resolv.conf and hosts.

    This machine's name server is out of reach inside, and every look-up would take its time-out.
    """
    lines = []
    for source, target in ((resolver, "/etc/resolv.conf"), (hosts, "/etc/hosts")):
        lines += [
            f"target=$(readlink -m {target})",
            'mkdir -p "$(dirname "$target")"',
            '[ -e "$target" ] || touch "$target"',
            f'mount --bind {shlex.quote(str(source))} "$target"',
        ]
    return "\n".join(lines)


class Keeper:
    """Holds one set of namespaces; *setup* is the shell script that prepares them."""

    def __init__(
        self,
        directory: Path,
        *,
        setup: str,
        parent: Keeper | None = None,
        leashed: bool = False,
    ) -> None:
        self._parent = parent
        self._ready = directory / "keeper.ready"
        # The leash works from any thread of the harness, which the kernel's death signal does not.
        hold = "cat <&3 >/dev/null" if leashed else "sleep infinity"
        # A shell that waits also reaps the orphans that a first process has to reap.
        ready = f"touch {shlex.quote(str(self._ready))}"
        script = f"set -e\nexec 3<&0 </dev/null\n{setup}\n{ready}\n{hold} & wait"
        self._service = Service(
            "keeper",
            directory=directory,
            command=["/bin/sh", "-c", script],
            enter=self._enter_new,
            leashed=leashed,
        )

    @property
    def alive(self) -> bool:
        """Whether the namespaces are there."""
        return self._service.alive

    @property
    def pid(self) -> int:
        """The keeper's process id, as the machine sees it."""
        process = self._service.process
        if process is None:
            raise ClusterError(
                f"the namespaces of {self._ready.parent.name} are not there; start it first"
            )
        return process.pid

    def start(self) -> None:
        """Make the namespaces; returns when they are ready."""
        self._ready.unlink(missing_ok=True)
        self._service.start()
        self._service.wait_until(self._ready.exists, timeout=_READY_TIMEOUT, what="namespaces")

    def kill(self) -> None:
        """Kill the keeper and, by the kernel's doing, everything in its namespaces."""
        self._service.kill()

    def enter(self) -> Entry:
        """Brings a command into all the namespaces."""
        return Entry(prefix=("nsenter", "--target", str(self.pid), *_KINDS, "--"), forks=1)

    def run(self, *argv: str, stdin: bytes | None = None, timeout: float = 600.0) -> str:
        """Run a short command inside and return its output."""
        return run([*self.enter().prefix, *argv], stdin=stdin, timeout=timeout)

    def run_net(self, script: str) -> None:
        """Run a shell script in the network namespace only."""
        run(["nsenter", "--target", str(self.pid), "--net", "--", "/bin/sh", "-ec", script])

    def _enter_new(self) -> Entry:
        outer = self._parent.enter() if self._parent else here()
        return Entry(
            prefix=(*outer.prefix, "unshare", *_KINDS, *_UNSHARE_OPTIONS), forks=outer.forks + 1
        )
