from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ararat import process
from ararat.process import Command


def shell(script: str, **more: object) -> Command:
    fields = {"argv": ("/bin/sh", "-c", script), "env": {"PATH": "/usr/bin:/bin"}, **more}
    return Command(**fields)  # type: ignore[arg-type]


def python(script: str) -> Command:
    return Command(argv=(sys.executable, "-I", "-c", script), env={})


async def test_both_outputs_and_the_code_are_handed_over() -> None:
    out: list[str] = []
    err: list[str] = []
    end = await process.run(
        shell("echo one; echo two >&2; printf three; exit 7"),
        grace=1,
        on_stdout=out.append,
        on_stderr=err.append,
    )
    assert out == ["one", "three"]
    assert err == ["two"]
    assert (end.code, end.signal, end.tail, end.stopped) == (7, None, ("two",), False)
    assert end.text == "ended with code 7"
    assert end.cpu_seconds > 0


async def test_only_the_given_environment_is_seen() -> None:
    os.environ["SECRET_OF_OURS"] = "x"
    out: list[str] = []
    try:
        await process.run(
            shell("env", env={"PATH": "/usr/bin", "ONE": "1"}), grace=1, on_stdout=out.append
        )
    finally:
        del os.environ["SECRET_OF_OURS"]
    assert {line.split("=")[0] for line in out} <= {"PATH", "ONE", "PWD", "SHLVL", "_", "OLDPWD"}


async def test_secrets_are_removed_and_lines_are_cut_and_counted() -> None:
    script = "import sys\nfor n in range(80): print(n, 'hunter2', 'x' * 5000, file=sys.stderr)"
    end = await process.run(
        Command(argv=(sys.executable, "-I", "-c", script), env={}, secrets=("hunter2", "")),
        grace=1,
    )
    assert len(end.tail) == process.TAIL_LINES
    assert end.tail[-1].startswith("79 *** xxx")
    assert max(map(len, end.tail)) == process.TAIL_WIDTH


async def test_very_long_lines_arrive_whole() -> None:
    out: list[str] = []
    await process.run(
        python("print('a' * 5_000_000); print('b'); print('c' * 300_000, end='')"),
        grace=1,
        on_stdout=out.append,
    )
    assert [len(line) for line in out] == [5_000_000, 1, 300_000]


async def test_what_is_not_utf8_is_replaced() -> None:
    out: list[str] = []
    await process.run(shell(r"printf 'a\377b\n'"), grace=1, on_stdout=out.append)
    assert out == ["a\ufffdb"]


async def test_a_child_that_nobody_listens_to_does_not_block() -> None:
    async with asyncio.timeout(10):
        end = await process.run(
            python("import sys\nfor f in (sys.stdout, sys.stderr): f.write('x' * 10_000_000)"),
            grace=1,
        )
    assert end.code == 0


async def test_cancelling_ends_it_politely() -> None:
    out: list[str] = []
    running = asyncio.create_task(
        process.run(
            shell("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done"),
            grace=10,
            on_stdout=out.append,
        )
    )
    while not out:
        await asyncio.sleep(0.01)
    began = time.monotonic()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert time.monotonic() - began < 5


async def test_a_stubborn_one_is_killed_after_the_grace_with_its_children() -> None:
    out: list[str] = []
    running = asyncio.create_task(
        process.run(
            shell("trap '' TERM; sleep 60 & echo $!; while :; do sleep 0.05; done"),
            grace=0.3,
            on_stdout=out.append,
        )
    )
    while not out:
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.sleep(0.05)
    assert not _alive(int(out[0]))


async def test_a_second_cancel_does_not_wait_for_the_grace() -> None:
    out: list[str] = []
    running = asyncio.create_task(
        process.run(
            shell("trap '' TERM; echo up; while :; do sleep 0.05; done"),
            grace=60,
            on_stdout=out.append,
        )
    )
    while not out:
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.sleep(0.1)
    running.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_a_child_full_of_output_can_still_be_cancelled() -> None:
    running = asyncio.create_task(_leave_early())
    async with asyncio.timeout(10):
        await running


async def _leave_early() -> None:
    command = python(
        "import signal, sys\n"
        "def end(*_): sys.stdout.write('y' * 2_000_000); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "while True: sys.stdout.write('x' * 100_000)"
    )
    async with process.start(command, grace=8) as child:
        async for _ in child.chunks():
            break


async def test_stopping_is_told_from_ending() -> None:
    out: list[str] = []
    async with process.start(
        shell("trap '' TERM; echo up; while :; do sleep 0.05; done"), grace=0.2
    ) as child:
        async for line in child.lines():
            out.append(line)
            child.stop()
            child.stop()
        end = await child.wait()
    assert (end.signal, end.stopped, end.killed) == (signal.SIGKILL, True, True)
    assert "SIGKILL" in end.text


async def test_a_handler_that_fails_ends_the_child() -> None:
    pids: list[int] = []

    def fail(_line: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await process.run(
            shell("echo x; exec sleep 60"),
            grace=1,
            on_stdout=fail,
            on_start=lambda child: pids.append(child.pid),
        )
    assert not _alive(pids[0])


async def test_it_starts_in_the_given_directory(tmp_path: Path) -> None:
    (tmp_path / "here").touch()
    descriptor = os.open(tmp_path, os.O_RDONLY)
    out: list[str] = []
    await process.run(
        shell("ls; ls /proc/self/fd", directory=descriptor), grace=1, on_stdout=out.append
    )
    os.close(descriptor)
    assert out[0] == "here"
    assert str(descriptor) not in out[1:], "the directory's descriptor is not passed on"


async def test_descriptors_are_inherited_by_number() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"password\n")
    os.close(writing)
    out: list[str] = []
    await process.run(
        shell(f"cat /dev/fd/{reading}", descriptors=(reading,)), grace=1, on_stdout=out.append
    )
    os.close(reading)
    assert out == ["password"]


async def test_a_program_that_is_not_there_is_a_launcher_failure() -> None:
    end = await process.run(Command(argv=("/no/such/program",), env={}), grace=1)
    assert end.code == process.LAUNCH_FAILED
    assert end.tail[0].startswith("launch: ")


async def test_peak_memory_is_seen() -> None:
    # Longer than the longest pause between two samples.
    end = await process.run(
        python("x = bytearray(150_000_000); import time; time.sleep(2)"), grace=1
    )
    assert 140_000_000 < end.peak_rss < 400_000_000


def test_no_child_outlives_us(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from ararat import process\n"
        "from ararat.process import Command\n"
        "asyncio.run(process.run(Command(argv=('/bin/sleep', '60'), env={}), grace=1,\n"
        "    on_start=lambda child: print(child.pid, flush=True)))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/comm").read_text().strip() != "sleep":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
