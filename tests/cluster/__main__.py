"""Command line: `python -m tests.cluster up|down|status|kubeconfig`.

`up` leaves the cluster running on its own; `down` ends it, from any process, and also clears away
what a crashed run left.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from types import FrameType
from typing import NoReturn

from tests.cluster.cluster import Cluster
from tests.cluster.errors import ClusterError
from tests.cluster.toolchain import ToolchainError

_DEFAULT_NAME = "dev"


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit code."""
    chosen = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        match chosen.command:
            case "up":
                _up(chosen.name, nodes=chosen.nodes)
            case "down":
                _down(Cluster.names() if chosen.all else [chosen.name])
            case "status":
                return _status()
            case _:
                print(_existing(chosen.name).kubeconfig)
    except (ClusterError, ToolchainError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing of it is left running", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    name = argparse.ArgumentParser(add_help=False)
    name.add_argument("--name", default=_DEFAULT_NAME, help=f"the cluster ({_DEFAULT_NAME})")
    up = commands.add_parser("up", parents=[name], help="start a cluster and leave it running")
    up.add_argument("--nodes", type=int, default=2)
    down = commands.add_parser("down", parents=[name], help="stop it, leaving nothing behind")
    down.add_argument("--all", action="store_true", help="stop every cluster of this machine")
    commands.add_parser("status", help="list the clusters")
    commands.add_parser("kubeconfig", parents=[name], help="print the path of its kubeconfig")
    return parser


def _up(name: str, *, nodes: int) -> None:
    started = time.monotonic()
    cluster = Cluster(name, nodes=nodes, leashed=False).start()
    print(f"cluster {name} is ready after {time.monotonic() - started:.0f} s")
    print(f"export KUBECONFIG={cluster.kubeconfig}")


def _down(names: list[str]) -> None:
    for name in names:
        if name in Cluster.names():
            Cluster(name).stop()
            print(f"cluster {name} is gone")
        else:
            print(f"there is no cluster {name}")


def _status() -> int:
    names = Cluster.names()
    if not names:
        print("no clusters")
    for name in names:
        cluster = Cluster(name)
        if not cluster.running:
            print(f"{name}: left over; remove it with 'down --name {name}'")
            continue
        print(f"{name}: {cluster.control_plane.url}, reachable from pods as {cluster.gateway_ip}")
        for node in cluster.nodes:
            programs = (node.containerd, node.kubelet, node.proxy)
            running = " ".join(program.name for program in programs if program.alive)
            print(f"  {node.name} {node.address}: {running or 'nothing runs'}")
    return 0


def _existing(name: str) -> Cluster:
    if name not in Cluster.names():
        raise ClusterError(f"there is no cluster {name}; start it with 'up --name {name}'")
    return Cluster(name)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
