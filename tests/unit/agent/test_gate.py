"""The gate's two ends: what the agent writes, and what the waiting container makes of it."""

import json
import os
import resource
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
from tests.containers import NEVER_STARTED, PASSED, ended_state
from tests.unit.agent.jobs import GATE_RUNS, pod, restore

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
    assert not gate.gate_running(pod(gate=PASSED))
    assert gate.gate_passed(pod(gate=PASSED))
    assert not gate.gate_passed(pod(gate=ended_state(137)))
    assert gate.gate_restarts(pod(gate=ended_state(137)))


def test_a_gate_that_never_started_has_neither_passed_nor_failed():
    never = pod(gate=NEVER_STARTED)
    assert not gate.gate_passed(never)
    assert not gate.gate_running(never)
    assert not gate.gate_restarts(never)
    epoch = {"exitCode": 0, "startedAt": "1970-01-01T00:00:00Z", "reason": "Completed"}
    assert not gate.gate_passed(pod(gate={"terminated": epoch}))

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


def test_a_cause_stands_beside_the_progress(kubelet: Path):
    write_answer(kubelet, "u-1", answer(message="The store is silent."))
    lines, opened = the_gate(kubelet, started=time.time()).look(time.time())
    assert not opened
    assert len(lines) == 1
    assert lines[0].endswith(" files; The store is silent.")


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


def loaded(*arguments: str) -> set[str]:
    """What a Python that runs this imports."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "importtime", *arguments],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    lines = (line for line in done.stderr.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip() for line in lines}


def test_it_imports_next_to_nothing():
    """So that it starts in milliseconds, in any image with a Python."""
    assert loaded(str(WAIT)) - loaded("-c", "import json, os, signal, sys, time") == set()


def test_its_start_costs_less_than_a_tenth_of_a_second_of_cpu(kubelet: Path):
    """What bench/agent.py measures on a clock, where others take that time: the best of some."""
    spent = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        process = start(kubelet)
        assert process.stdout is not None
        assert "restore back fills data" in process.stdout.readline()
        process.kill()
        process.communicate()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(spent) < 0.1, spent


def test_it_looks_again_within_a_tenth_of_a_second(
    kubelet: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """An outcome that comes while it sleeps ends the very next look, with no further sleep."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            write_answer(kubelet, "u-1", answer(GatePhase.COMPLETED))

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    arguments = gate.arguments(restore="back", restore_uid="r-1", volumes=["data"])
    assert wait.main([*arguments, "--directory", str(directory(kubelet))]) == 0
    assert "all volumes are ready" in capsys.readouterr().out
    assert len(slept) == 3
    assert max(slept) <= 0.1


@pytest.mark.parametrize(
    ("phase", "code", "said"),
    [
        (GatePhase.COMPLETED, 0, "all volumes are ready"),
        (GatePhase.RELEASED, 0, "going on all the same"),
        (GatePhase.REFUSED, 1, "this pod is not to start"),
    ],
)
def test_how_the_real_process_ends(kubelet: Path, phase: GatePhase, code: int, said: str):
    """After a failure, which ends nothing, and also when a node's reboot runs it once more."""
    first = start(kubelet)
    assert first.stdout is not None
    first.stdout.readline()
    write_answer(kubelet, "u-1", answer(GatePhase.FAILED, message="The volume is full."))
    assert any("FAILED: The volume is full." in line for line in first.stdout)
    assert first.poll() is None
    write_answer(kubelet, "u-1", answer(phase, message="a word", heartbeat=1.0))
    assert said in first.communicate(timeout=60)[0]
    again = start(kubelet)
    assert said in again.communicate(timeout=60)[0]
    assert [first.returncode, again.returncode] == [code, code]


def test_silence_does_not_end_it(kubelet: Path):
    """The deadline is about being heard; a pod that went on would start on half a volume."""
    begun = time.time()
    waiting = the_gate(kubelet, "--no-progress-seconds", "300", started=begun)
    write_answer(kubelet, "u-1", answer(heartbeat=begun))
    for minutes in range(1, 24 * 60):
        lines, opened = waiting.look(begun + 60 * minutes)
        assert not opened
        said = [line for line in lines if "no word from the agent" in line]
        assert len(said) == 1
        assert ("stays here until" in said[0]) == (minutes >= 5)
    # Heard of again: nothing more is said of it, and what counts is the outcome.
    now = begun + 86400
    write_answer(kubelet, "u-1", answer(heartbeat=now))
    assert not any("no word" in line for line in waiting.look(now + 59)[0])
    write_answer(kubelet, "u-1", answer(GatePhase.COMPLETED, heartbeat=now))
    assert waiting.look(now + 60)[1]
