"""The part of a kubelet that runs commands in containers, so that exec can be tested for real.

Problem: hooks go through the API server to the node; a cluster with nodes is too slow to end a
controller in two hundred times.
Decision: a Node object whose kubelet is this server. The real API server authenticates itself to
it, checks its certificate, and passes the WebSocket through. A "container" is a directory: its
commands are real processes of this machine that run there, and go on when the connection breaks,
as they do below a container runtime.
Limits: no stdin, no terminal; every container of a pod shares the pod's directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from ararat.kube import KubeApi
from ararat.kube.exec import PROTOCOL
from ararat.kube.resources import NODES
from tests.cluster.apiserver import ControlPlane

#: A container of this name has no shell and no other program.
BARE = "bare"


@dataclass
class Kubelet:
    """Runs commands below ``root/<namespace>/<pod>``."""

    root: Path
    #: Requests are refused, as by a node that is out of order.
    down: bool = False
    #: Commands that were started: (pod, argv).
    started: list[tuple[str, list[str]]] = field(default_factory=list)
    processes: set[asyncio.subprocess.Process] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def directory(self, namespace: str, pod: str) -> Path:
        path = self.root / namespace / pod
        path.mkdir(parents=True, exist_ok=True)
        return path

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.down:
            return web.Response(status=500, text="the container runtime is down")
        namespace, pod = request.match_info["namespace"], request.match_info["pod"]
        container = request.match_info["container"]
        command = request.query.getall("command")
        socket = web.WebSocketResponse(protocols=(PROTOCOL,))
        await socket.prepare(request)
        for channel in range(4):
            await socket.send_bytes(bytes([channel]))
        search = "/nonexistent" if container == BARE else os.environ["PATH"]
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=self.directory(namespace, pod),
                env={"PATH": search},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except FileNotFoundError:
            status = {
                "status": "Failure",
                "reason": "InternalError",
                "message": f"exec: {command[0]!r}: executable file not found in $PATH",
            }
            await socket.send_bytes(b"\x03" + json.dumps(status).encode())
            await socket.close()
            return socket
        self.started.append((pod, command))
        self.processes.add(process)
        # Not this handler's own: the command goes on when its caller has gone.
        task = asyncio.create_task(self._serve(process, socket))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait([task])
        return socket

    async def _serve(
        self, process: asyncio.subprocess.Process, socket: web.WebSocketResponse
    ) -> None:
        async def pump(channel: int, stream: asyncio.StreamReader | None) -> None:
            assert stream is not None
            while data := await stream.read(4096):
                with contextlib.suppress(ConnectionError, RuntimeError):
                    await socket.send_bytes(bytes([channel]) + data)

        await asyncio.gather(pump(1, process.stdout), pump(2, process.stderr))
        code = await process.wait()
        self.processes.discard(process)
        with contextlib.suppress(ConnectionError, RuntimeError):
            await socket.send_bytes(b"\x03" + json.dumps(_status(code)).encode())
            await socket.close()

    async def close(self) -> None:
        for process in list(self.processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        if self._tasks:
            await asyncio.wait(self._tasks)


def _status(code: int) -> dict[str, Any]:
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    code = code if code > 0 else 128 - code
    return {
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


@asynccontextmanager
async def running(
    control_plane: ControlPlane, api: KubeApi, *, node: str, root: Path
) -> AsyncIterator[Kubelet]:
    """The node ``node``, from the moment that the API server knows it."""
    kubelet = Kubelet(root)
    pair = control_plane.issue_node(node, address="127.0.0.1")
    context = ssl.create_default_context(
        ssl.Purpose.CLIENT_AUTH, cafile=str(control_plane.ca.certificate)
    )
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(pair.certificate, pair.key)
    app = web.Application()
    app.router.add_get("/exec/{namespace}/{pod}/{container}", kubelet.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    body = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": runner.addresses[0][1]}},
        },
    }
    await api.create(NODES, body)
    try:
        yield kubelet
    finally:
        await api.delete(NODES, node)
        await kubelet.close()
        await runner.cleanup()
