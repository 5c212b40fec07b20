"""Names of services for pods, answered by a process of the cluster.

Problem: ordinary charts find their database by a service's name, and there is no image of a DNS
server to run.
Decision: a UDP server on the control plane's address that asks the API server for each question and
remembers the last good answer for the time the API server is away. It knows

    SERVICE.NAMESPACE.svc.cluster.local           the ClusterIP, or a headless service's pods
    HOSTNAME.SERVICE.NAMESPACE.svc.cluster.local  one pod of a headless service
    ANYTHING.blob.core.test                       this machine, where an Azurite listens

Limits: IPv4 addresses only; no SRV, no reverse look-ups, no TCP; other names do not exist.
"""

from __future__ import annotations

import argparse
import http.client
import ipaddress
import socket
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster.api import ApiClient, ApiError
from tests.cluster.azurite import SUFFIX as BLOB_SUFFIX

DOMAIN: Final = "cluster.local"
PORT: Final = 53

_TTL = 5
_TYPE_A = 1
_NO_ERROR, _SERVER_FAILURE, _NO_SUCH_NAME = 0, 2, 3


@dataclass(frozen=True)
class Question:
    """What a resolver asks."""

    identity: int
    name: str
    kind: int
    raw: bytes


def parse(packet: bytes) -> Question:
    """Read the one question of a query; raises ValueError for anything else."""
    identity, flags, questions = struct.unpack_from("!HHH", packet)
    if flags & 0x8000 or questions != 1:
        raise ValueError("not a query with one question")
    labels: list[str] = []
    position = 12
    while packet[position]:
        length = packet[position]
        labels.append(packet[position + 1 : position + 1 + length].decode("ascii", "replace"))
        position += 1 + length
    (kind,) = struct.unpack_from("!H", packet, position + 1)
    return Question(
        identity=identity,
        name=".".join(labels).lower(),
        kind=kind,
        raw=packet[12 : position + 5],
    )


def answer(question: Question, addresses: list[str] | None, *, failed: bool = False) -> bytes:
    """The response: *addresses* is None for a name that does not exist."""
    found = addresses or []
    records = [ipaddress.IPv4Address(a).packed for a in found] if question.kind == _TYPE_A else []
    code = _SERVER_FAILURE if failed else _NO_SUCH_NAME if addresses is None else _NO_ERROR
    header = struct.pack("!HHHHHH", question.identity, 0x8580 | code, 1, len(records), 0, 0)
    body = b"".join(
        struct.pack("!HHHIH", 0xC00C, _TYPE_A, 1, _TTL, len(record)) + record for record in records
    )
    return header + question.raw + body


class Names:
    """Looks names up."""

    def __init__(self, api: ApiClient, *, machine: str) -> None:
        self._api = api
        self._machine = machine
        self._remembered: dict[str, list[str] | None] = {}

    def look_up(self, name: str) -> list[str] | None:
        """The addresses of *name*, None if there is no such name.

        Raises OSError or ApiError while the API server is away and the name was never asked for.
        """
        if name.endswith(f".{BLOB_SUFFIX}"):
            return [self._machine]
        if not name.endswith(f".svc.{DOMAIN}"):
            return None
        try:
            found = self._service(name.removesuffix(f".svc.{DOMAIN}").split("."))
        except ApiError as error:
            if error.status != http.client.NOT_FOUND:
                return self._recall(name, error)
            found = None
        except (OSError, http.client.HTTPException) as error:
            return self._recall(name, error)
        self._remembered[name] = found
        return found

    def _service(self, labels: list[str]) -> list[str] | None:
        if len(labels) not in {2, 3}:
            return None
        namespace, service = labels[-1], labels[-2]
        path = f"/api/v1/namespaces/{namespace}"
        address = self._api.get(f"{path}/services/{service}")["spec"].get("clusterIP", "None")
        if len(labels) == 2 and address != "None":
            return [address]
        subsets = self._api.get(f"{path}/endpoints/{service}").get("subsets") or []
        pods = [pod for subset in subsets for pod in subset.get("addresses", [])]
        if len(labels) == 3:
            pods = [pod for pod in pods if pod.get("hostname") == labels[0]]
        return [pod["ip"] for pod in pods] or None

    def _recall(self, name: str, error: Exception) -> list[str] | None:
        if name not in self._remembered:
            raise error
        return self._remembered[name]


def serve(names: Names, *, address: str) -> None:
    """Answer until killed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, PORT))
        while True:
            packet, client = server.recvfrom(4096)
            try:
                question = parse(packet)
            except (ValueError, IndexError, struct.error):
                continue
            try:
                response = answer(question, names.look_up(question.name))
            except (OSError, http.client.HTTPException, ApiError):
                response = answer(question, None, failed=True)
            server.sendto(response, client)


def main(arguments: list[str]) -> int:
    """Run until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--machine", required=True)
    chosen = parser.parse_args(arguments)
    serve(Names(ApiClient(chosen.kubeconfig), machine=chosen.machine), address=chosen.address)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
