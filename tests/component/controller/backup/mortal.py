"""A leader that is a process of its own, and dies by SIGKILL: nothing of it is run afterwards.

Problem: a task that is cancelled runs its ``finally`` clauses; a process that is killed does not,
its connections break and its children are orphans.
Decision: leaders are forked from a server that has imported everything, so that a life costs
milliseconds. Each kills itself at the call that it was told, before or after it is made, or is
killed by the test at any moment. What it logs is in a file.
Limits: processes are started and asked after from one thread only: multiprocessing needs that.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from ararat.kube import connect
from controller.app import lead, make_context
from controller.config import Config
from controller.hooks import execute

from .kills import Killed, Killer

_servers = multiprocessing.get_context("forkserver")
_servers.set_forkserver_preload(["__main__", __name__])


@dataclass(frozen=True)
class Life:
    """What a leader is, and when it kills itself."""

    config: Config
    kubeconfig: str
    cluster: str
    log: str
    #: The call before or after which it dies, counted from the first that writes a record of hooks
    #: if ``since_hooks``; None: it does not kill itself.
    at: int | None = None
    after: bool = False
    since_hooks: bool = False
    grace_seconds: float = 3.0

    def start(self) -> ForkServerProcess:
        process = _servers.Process(target=_live, args=(self,), daemon=True)
        process.start()
        return process


async def killed(process: ForkServerProcess) -> None:
    """Until it is dead, by whatever: only a signal ends it."""
    process.kill()
    while process.is_alive():
        await asyncio.sleep(0.01)
    assert process.exitcode == -signal.SIGKILL, f"the leader ended by itself: {process.exitcode}"


@dataclass
class _Suicide(Killer):
    since_hooks: bool = False

    async def around(self, name: str, work: Callable[[], Awaitable[Any]]) -> Any:
        begun = not self.since_hooks or self.calls or name.startswith("api create secrets hooks")
        if not begun:
            return await work()
        self.calls.append(name)
        if len(self.calls) != self.at:
            return await work()
        if self.after:
            await work()
        print(f"dies {'after' if self.after else 'at'} call {self.at}: {name}", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("it is dead")


def _live(life: Life) -> None:
    log = os.open(life.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    execute.GRACE_SECONDS = life.grace_seconds
    asyncio.run(_lead(life))


async def _lead(life: Life) -> None:
    killer = _Suicide(at=life.at, after=life.after, since_hooks=life.since_hooks)
    async with connect(life.kubeconfig) as client:
        api: Any = Killed(client, killer, what="api")
        await lead(make_context(life.config, api, cluster_uid=life.cluster, version="v1.20.2"))


def last_words(log: Path) -> str:
    """At which call the last of the leaders that wrote to ``log`` killed itself."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return next((line for line in reversed(lines) if line.startswith("dies ")), "")
