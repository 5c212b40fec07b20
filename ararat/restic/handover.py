"""A stored file's bytes, from the kernel's cache into restic's socket.

Problem: where the store is a directory, a restore spent a third of its processor time on bringing
every byte into this process and out of it again.
Decision: ``sendfile(2)`` from the file to the connection, a few MiB at a time. It runs in a thread,
because the file may lie on a server that does not answer; the connection never blocks, so a thread
that hangs hangs in the file, and its caller's deadline means the store. A socket that is full is
waited for in the thread for a moment (restic empties it at once while all goes well), then by the
event loop, so that a restic that writes to a slow volume holds no thread.
Limits: bytes are not looked at; restic authenticates them. Both descriptors are closed when the
last step has ended, which for one that hangs is after ``close``; its connection ends at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import socket
import threading
import time

from .settings import MIB

#: What one step moves at most, and where the bandwidth is limited: that much goes at line speed.
STEP, PACED = 4 * MIB, MIB // 2
#: How long a step waits for a full socket each time, and how long it may take altogether.
_FULL_MILLISECONDS = 20
_STEP_SECONDS = 1.0


class Handover:
    """Takes the descriptor of a file, which it closes, and a copy of the transport's own."""

    def __init__(self, file: int, transport: asyncio.BaseTransport, *, offset: int) -> None:
        shared = transport.get_extra_info("socket")
        try:
            self._socket = socket.fromfd(shared.fileno(), shared.family, shared.type)
        except OSError:
            os.close(file)
            raise ConnectionResetError("restic has gone") from None
        self._file = file
        self._offset = offset
        self._moving = threading.Lock()
        self._closed = False

    def step(self, most: int) -> int:
        """Move up to ``most`` bytes; 0 if the socket is full. Blocking. Raises OSError."""
        try:
            with self._moving:
                return 0 if self._closed else self._move(most)
        finally:
            if self._closed:
                self._release()

    async def writable(self) -> None:
        """Wait until the socket takes more, or its other end is gone."""
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_writer(self._socket, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_writer(self._socket)

    def close(self) -> None:
        """Where a step is under way, its connection ends: nothing may come after what it sends."""
        self._closed = True
        if not self._release():
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _move(self, most: int) -> int:
        moved = 0
        late = time.monotonic() + _STEP_SECONDS
        full = select.poll()
        full.register(self._socket, select.POLLOUT)
        while moved < most and not self._closed and time.monotonic() < late:
            try:
                number = os.sendfile(self._socket.fileno(), self._file, self._offset, most - moved)
            except BlockingIOError:
                if not full.poll(_FULL_MILLISECONDS):
                    break
                continue
            except OSError:
                if moved:
                    break  # the next step meets it again; what was moved is counted first
                raise
            if not number:
                if moved:
                    break
                raise OSError(errno.ENODATA, "the file ends before the range does")
            moved += number
            self._offset += number
        return moved

    def _release(self) -> bool:
        """Close both, unless a step is using them: it does so at its end."""
        if not self._moving.acquire(blocking=False):
            return False
        try:
            if self._file >= 0:
                os.close(self._file)
                self._socket.close()
                self._file = -1
            return True
        finally:
            self._moving.release()
