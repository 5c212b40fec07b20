"""The gate's two ends: what the agent writes, and what the waiting container makes of it."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent import wait
from agent.gate_answer import GateUnreachable, write_answer
from agent.gatekeeper import answer_for
from ararat import gate
from ararat.gate import GateAnswer, GatePhase
from tests.unit.agent.jobs import GATE_PASSED, GATE_RUNS, pod, restore

WAIT = Path(wait.__file__)


@pytest.fixture
def kubelet(tmp_path: Path) -> Path:
    (tmp_path / "pods/u-1/volumes/kubernetes.io~empty-dir" / gate.VOLUME).mkdir(parents=True)
    return tmp_path


def directory(kubelet: Path) -> Path:
    return kubelet / "pods/u-1/volumes/kubernetes.io~empty-dir" / gate.VOLUME


def answer(phase: GatePhase = GatePhase.FILLING, **more: object) -> GateAnswer:
    fields = {"restore_uid": "r-1", "volume": "data", "heartbeat": time.time(), **more}
    return GateAnswer(phase=phase, **fields)  # type: ignore[arg-type]


# --- writing ------------------------------------------------------------------------------------


def test_an_answer_is_whole_and_readable_by_anyone(kubelet: Path):
    before = os.umask(0o077)
    try:
        write_answer(kubelet, "u-1", answer(bytes_done=5))
    finally:
        os.umask(before)
    file = directory(kubelet) / "data.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert json.loads(file.read_text())["bytesDone"] == 5
    assert os.listdir(directory(kubelet)) == ["data.json"]


def test_what_a_killed_agent_left_is_replaced(kubelet: Path):
    (directory(kubelet) / ".data.json.new").write_text("{half")
    write_answer(kubelet, "u-1", answer(GatePhase.COMPLETED))
    assert os.listdir(directory(kubelet)) == ["data.json"]


def test_the_directory_is_never_made(tmp_path: Path):
    with pytest.raises(GateUnreachable):
        write_answer(tmp_path, "u-1", answer())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", [".data.json.new", "data.json"])
def test_links_are_replaced_and_not_followed(kubelet: Path, name: str):
    victim = kubelet / "victim"
    victim.write_text("precious")
    (directory(kubelet) / name).symlink_to(victim)
    write_answer(kubelet, "u-1", answer())
    assert victim.read_text() == "precious"
    assert not (directory(kubelet) / "data.json").is_symlink()


def test_a_linked_directory_is_refused(kubelet: Path):
    elsewhere = kubelet / "elsewhere"
    elsewhere.mkdir()
    directory(kubelet).rmdir()
    directory(kubelet).symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(GateUnreachable):
        write_answer(kubelet, "u-1", answer())
    assert os.listdir(elsewhere) == []


@pytest.mark.parametrize("volume", ["../data", "a/b", "", ".."])
def test_names_that_lead_elsewhere(kubelet: Path, volume: str):
    with pytest.raises(ValueError, match="not the name of a volume"):
        write_answer(kubelet, "u-1", answer(volume=volume))


# --- what is answered ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        ({}, GatePhase.WAITING),
        ({"phase": "InProgress"}, GatePhase.FILLING),
        ({"phase": "Completed"}, GatePhase.COMPLETED),
        ({"phase": "Failed", "message": "disk full"}, GatePhase.FAILED),
        ({"phase": "Cancelled"}, GatePhase.FAILED),
    ],
)
def test_the_answer_follows_the_status(status: dict[str, str], phase: GatePhase):
    found = answer_for(restore(status=status), live=None, now=1.0)
    assert found.phase is phase
    assert found.restore_uid == "restore-1"
    if "message" in status:
        assert status["message"] in found.message


def test_a_follow_that_waits_is_not_filling():
    job = restore(spec={"role": "Follow", "follows": "x"}, status={"phase": "InProgress"})
    assert answer_for(job, live=None, now=1.0).phase is GatePhase.WAITING


def test_pods_at_the_gate():
    assert gate.gate_running(pod(gate=GATE_RUNS))
    assert not gate.gate_running(pod(gate=GATE_PASSED))
    assert gate.gate_passed(pod(gate=GATE_PASSED))
    assert not gate.gate_passed(pod(gate={"terminated": {"exitCode": 137}}))
    assert not gate.is_gated(pod())


# --- the waiting container ----------------------------------------------------------------------


def test_both_sides_use_the_same_names():
    assert wait.DIRECTORY == gate.MOUNT_PATH
    assert wait.SILENCE_SECONDS == gate.SILENCE_SECONDS
    assert set(wait.OPENING) == {phase.value for phase in GatePhase if phase.opens}
    arguments = gate.arguments(restore="back", restore_uid="r-1", volumes=["data", "uploads"])
    settings = wait.Settings(arguments)
    assert settings.volumes == ["data", "uploads"]
    assert (settings.restore, settings.restore_uid) == ("back", "r-1")
    assert settings.no_progress_seconds == 900
    assert wait.TURN == gate.TURN
    assert GatePhase.REFUSED.value == wait.REFUSED


@pytest.mark.parametrize("arguments", [[], ["--volumes", "a"], ["--restore-uid"], ["--what", "x"]])
def test_bad_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    assert wait.main(arguments) == 2
    assert "restore-wait:" in capsys.readouterr().err


def the_gate(kubelet: Path, *extra: str, volumes: str = "data", started: float = 0.0):
    settings = wait.Settings(
        ["--restore", "back", "--restore-uid", "r-1", "--volumes", volumes,
         "--directory", str(directory(kubelet)), *extra]
    )  # fmt: skip
    found = [
        wait.Volume(name, f"{settings.directory}/{name}.json", settings.restore_uid)
        for name in settings.volumes
    ]
    return wait.Gate(settings, found, started)


def test_opens_when_every_volume_is_ready(kubelet: Path):
    waiting = the_gate(kubelet, volumes="data,uploads", started=time.time())
    lines, done = waiting.look(time.time())
    assert not done
    assert lines == [
        "data: waiting for the agent on this node",
        "uploads: waiting for the agent on this node",
    ]
    write_answer(kubelet, "u-1", answer(GatePhase.COMPLETED))
    assert waiting.look(time.time()) == (["data: completed"], False)
    write_answer(kubelet, "u-1", answer(GatePhase.RELEASED, volume="uploads"))
    assert waiting.look(time.time()) == (["uploads: released"], True)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"phase": "Completed"}',
        '{"restoreUID": "other", "volume": "data", "phase": "Completed"}',
        '{"restoreUID": "r-1", "volume": "uploads", "phase": "Completed"}',
    ],
)
def test_only_a_whole_answer_for_this_restore_opens(kubelet: Path, content: str):
    (directory(kubelet) / "data.json").write_text(content)
    assert not the_gate(kubelet).look(time.time())[1]


def test_progress_is_readable(kubelet: Path):
    write_answer(
        kubelet,
        "u-1",
        answer(bytes_done=126_143_693, total_bytes=222_298_112, files_done=4031, total_files=9000),
    )
    lines, _ = the_gate(kubelet, started=time.time()).look(time.time())
    assert lines == ["data: 120.3 of 212.0 MiB, 56 %, 4,031 files"]


def test_failure_is_repeated_and_keeps_the_pod(kubelet: Path):
    now = time.time()
    waiting = the_gate(kubelet, started=now)
    failed = answer(GatePhase.FAILED, message="The volume is full.", heartbeat=now + 200)
    write_answer(kubelet, "u-1", failed)
    assert waiting.look(now) == (["data: FAILED: The volume is full."], False)
    assert waiting.look(now + 30) == ([], False)
    assert waiting.look(now + 61) == (["data: FAILED: The volume is full."], False)


def test_released_opens_and_refused_ends(kubelet: Path):
    write_answer(kubelet, "u-1", answer(GatePhase.RELEASED, message="a person released it"))
    lines, opened = the_gate(kubelet).look(time.time())
    assert (lines, opened) == (["data: released: a person released it"], True)
    write_answer(kubelet, "u-1", answer(GatePhase.REFUSED, message="given up"))
    refused = the_gate(kubelet)
    assert refused.look(time.time()) == (["data: REFUSED: given up"], False)
    assert refused.refused


def test_a_retry_after_a_failure_opens(kubelet: Path):
    waiting = the_gate(kubelet, started=time.time())
    for phase in (GatePhase.FAILED, GatePhase.FILLING):
        write_answer(kubelet, "u-1", answer(phase))
        assert not waiting.look(time.time())[1]
    write_answer(kubelet, "u-1", answer(GatePhase.COMPLETED))
    assert waiting.look(time.time())[1]


def test_silence_is_said(kubelet: Path):
    now = time.time()
    waiting = the_gate(kubelet, started=now)
    write_answer(kubelet, "u-1", answer(heartbeat=now))
    assert not any("no word" in line for line in waiting.look(now + 59)[0])
    said = [line for line in waiting.look(now + 61)[0] if "no word" in line]
    assert len(said) == 1
    assert "61 s" in said[0]
    assert not any("no word" in line for line in waiting.look(now + 62)[0])
    late = [line for line in waiting.look(now + 1000)[0] if "no word" in line]
    assert "ararat restore describe back" in late[0]


def start(kubelet: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(WAIT), "--restore", "back", "--restore-uid", "r-1",
         "--volumes", "data", "--directory", str(directory(kubelet)), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def test_the_real_process_opens_soon(kubelet: Path):
    process = start(kubelet)
    assert process.stdout is not None
    assert "restore back fills data" in process.stdout.readline()
    write_answer(kubelet, "u-1", answer(GatePhase.COMPLETED))
    begun = time.monotonic()
    assert process.wait(timeout=10) == 0
    assert time.monotonic() - begun < 1.0
    assert "all volumes are ready" in process.stdout.read()


def test_the_real_process_ends_promptly_on_sigterm(kubelet: Path):
    process = start(kubelet)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=5) == 143


def test_it_imports_next_to_nothing():
    """So that it starts in milliseconds, in any image with a Python."""
    code = (
        "import sys, runpy; before = set(sys.modules);"
        f"runpy.run_path({str(WAIT)!r}, run_name='x');"
        "print(' '.join(sorted(set(sys.modules) - before)))"
    )
    loaded = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not {"ararat", "ctypes", "asyncio", "subprocess"} & set(loaded)
