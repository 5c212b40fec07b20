"""The parts of the harness that can be looked at without a cluster."""

from __future__ import annotations

import os
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import builder, dns
from tests.cluster.errors import ClusterError
from tests.cluster.network import MAX_CLUSTERS, MAX_NODES, Network
from tests.cluster.process import ProcessId, Service
from tests.cluster.provisioner import volume_for


def test_a_service_is_found_again_by_its_file_and_stopped(tmp_path: Path) -> None:
    Service("nap", directory=tmp_path, command=["sleep", "600"]).start()
    found = Service("nap", directory=tmp_path, command=())
    process = found.process
    assert process is not None
    found.stop()
    assert not process.alive()
    assert not found.alive


def test_a_recycled_process_id_is_not_hit(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "600"])
    try:
        real = ProcessId.of(stranger.pid)
        assert real is not None
        (tmp_path / "nap.pid").write_text(f'{{"pid": {real.pid}, "started": {real.started - 1}}}')
        Service("nap", directory=tmp_path, command=()).stop()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_service_that_ends_at_once_says_why(tmp_path: Path) -> None:
    service = Service("fails", directory=tmp_path, command=["sh", "-c", "echo no luck; exit 3"])

    def start() -> None:
        service.start()
        service.wait_until(lambda: False, timeout=5, what="luck")

    with pytest.raises(ClusterError, match="no luck"):
        start()


def test_a_paused_service_is_resumed(tmp_path: Path) -> None:
    beat = tmp_path / "beat"
    script = f"while :; do echo . >> {beat}; sleep 0.05; done"
    service = Service("beats", directory=tmp_path, command=["sh", "-c", script])
    service.start()
    try:
        service.wait_until(beat.exists, timeout=5, what="beat")
        service.pause()
        time.sleep(0.2)
        size = beat.stat().st_size
        time.sleep(0.3)
        assert beat.stat().st_size == size
        service.resume()
        service.wait_until(lambda: beat.stat().st_size > size, timeout=5, what="beat")
    finally:
        service.kill()


def test_no_two_clusters_share_an_address() -> None:
    ranges = [
        found
        for index in range(MAX_CLUSTERS)
        for network in [Network(index=index, nodes=MAX_NODES)]
        for found in (network.gateway, network.services, network.pods)
    ]
    assert len(set(ranges)) == len(ranges)


def query(name: str, kind: int = 1) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return (
        struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)
    )


@pytest.mark.parametrize(
    ("addresses", "code", "count"), [(["198.18.128.1"], 0, 1), ([], 0, 0), (None, 3, 0)]
)
def test_dns_answers(addresses: list[str] | None, code: int, count: int) -> None:
    question = dns.parse(query("Web.default.svc.cluster.local"))
    assert question.name == "web.default.svc.cluster.local"
    response = dns.answer(question, addresses)
    identity, flags, _, answers = struct.unpack_from("!HHHH", response)
    assert (identity, flags & 0xF, answers) == (7, code, count)
    if count:
        assert response.endswith(bytes([198, 18, 128, 1]))


def test_dns_takes_no_rubbish() -> None:
    for packet in (b"", b"\0" * 5, query("a")[:14], dns.answer(dns.parse(query("a")), [])):
        with pytest.raises((ValueError, IndexError, struct.error)):
            dns.parse(packet)


def claim(**annotations: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "c", "namespace": "n", "uid": "u", "annotations": annotations},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "ararat-local",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def test_a_claim_is_answered_once_a_node_is_chosen() -> None:
    assert volume_for(claim(), policy="Delete") is None
    chosen = claim(**{"volume.kubernetes.io/selected-node": "node-2"})
    volume = volume_for(chosen, policy="Retain")
    assert volume is not None
    assert volume["spec"]["local"]["path"] == "/var/lib/volumes/ararat-local/pvc-u"
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    terms = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert terms[0]["matchExpressions"][0]["values"] == ["node-2"]


DOCKERFILE = """\
# COPY not/this .
FROM python:3.11-slim-bookworm AS build
COPY requirements.txt \\
     app/ /src/
FROM python:3.11-slim-bookworm
COPY --from=restic/restic:0.19.1 /usr/bin/restic /usr/local/bin/restic
COPY --from=build /venv /venv
COPY --chown=0:0 app/ /app/
"""


def test_a_dockerfile_tells_what_it_is_made_of(tmp_path: Path) -> None:
    (tmp_path / "app" / "__pycache__").mkdir(parents=True)
    for name in ("requirements.txt", "app/main.py", "app/__pycache__/main.pyc", "other.txt"):
        (tmp_path / name).write_text(name)
    copied = builder._copied(DOCKERFILE, context=tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in copied] == [
        "app/main.py",
        "requirements.txt",
    ]
    assert builder._bases(DOCKERFILE) == ["python:3.11-slim-bookworm", "restic/restic:0.19.1"]


def test_an_image_without_a_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"requirements\.txt"):
        builder._copied(DOCKERFILE, context=tmp_path)


def test_this_process_is_itself() -> None:
    assert ProcessId.of(os.getpid()) == ProcessId.of(os.getpid())


def test_building_an_image_leaves_no_mount(tmp_path: Path) -> None:
    def mounts() -> set[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return {line.split()[4] for line in lines if "buildah" in line}

    before = mounts()
    (tmp_path / "file").write_text(str(time.time_ns()))  # never in the cache of builds
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(f"FROM {builder.DEBIAN}\nCOPY file /file\nRUN test -s /file\n")
    image = builder.build_image(dockerfile, name="leaves-nothing")
    try:
        assert image.archive.stat().st_size > 0
        assert mounts() <= before
    finally:
        image.archive.unlink()
