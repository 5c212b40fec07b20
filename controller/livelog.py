"""The logs of the runs that are under way, for whoever follows them.

Problem: a run's log is stored when it ends, and it stands in the memory of the replica that leads.
Decision: the leader serves it on a unix socket in its own container: one line says whose log is
wanted, and lines come back until the run ends. ``controller show ... --follow`` connects to it from
inside, so that whoever may exec there needs nothing else, and no port is opened.
Limits: what a former leader logged is gone; the first line of its successor says so.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

import structlog

from ararat.errors import Retryable
from controller.runlog import RunLogs, encode_line

_NAME = "live-logs.sock"
_ASK_SECONDS = 10.0
log = structlog.get_logger("controller.livelog")


def socket_path(scratch_dir: Path) -> Path:
    return scratch_dir / _NAME


async def serve_live_logs(logs: RunLogs, scratch_dir: Path) -> None:
    """Until cancelled. Never raises for what becomes of a follower."""
    followers: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        followers.add(task)
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                uid = (await reader.readline()).decode(errors="replace").strip()
            found = logs.find(uid)
            if found is not None:
                async for line in found.follow():
                    writer.write(encode_line(line))
                    await writer.drain()
        except (OSError, TimeoutError, ValueError):
            return  # it went away, or asked for nothing
        finally:
            followers.discard(task)
            writer.close()

    path = socket_path(scratch_dir)
    path.unlink(missing_ok=True)
    try:
        server = await asyncio.start_unix_server(answer, path)
    except OSError as exc:
        log.warning("logs of running backups cannot be followed", error=str(exc))
        return
    path.chmod(0o600)
    mine = path.stat().st_ino
    try:
        await asyncio.Event().wait()
    finally:
        for task in list(followers):
            task.cancel()
        server.close()
        with contextlib.suppress(OSError):
            if path.stat().st_ino == mine:  # else a later leader's of this very container
                path.unlink()


async def follow(scratch_dir: Path, uid: str) -> AsyncGenerator[bytes, None]:
    """The lines of a run's log, as they come. Raises Retryable: this replica does not lead."""
    try:
        reader, writer = await asyncio.open_unix_connection(socket_path(scratch_dir), limit=1 << 20)
    except OSError as exc:
        raise Retryable("this controller does not lead at the moment", reason="NotLeading") from exc
    try:
        writer.write(f"{uid}\n".encode())
        await writer.drain()
        while line := await reader.readline():
            yield line
    finally:
        writer.close()
