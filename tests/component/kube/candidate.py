"""A process that runs an elector; its work is to write the time to a file, many times a second.

``python -m tests.component.kube.candidate KUBECONFIG NAMESPACE IDENTITY FILE '{"kind": "plain"}'``;
the times are those of the monotonic clock, which is the same in all processes. On SIGUSR1 its event
loop stands still.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ararat.kube import Elector, SteadyElector, connect


@dataclass(frozen=True)
class Manner:
    """How a candidate is to behave."""

    #: ``plain`` or ``steady``.
    kind: str = "steady"
    #: The Lease, in seconds; renewals in proportion.
    lease: float = 3.0
    #: What a steady elector allows.
    stall: float = 60.0
    #: How long the loop stands still on SIGUSR1.
    still: float = 10.0


async def main(kubeconfig: str, namespace: str, identity: str, file: str, manner: Manner) -> None:
    async def body() -> None:
        with Path(file).open("a") as out:
            while True:
                print(identity, time.monotonic(), file=out, flush=True)
                await asyncio.sleep(0.05)

    Path(file).with_suffix(f".{identity}").touch()  # it is up
    settings: dict[str, Any] = {"namespace": namespace, "name": "c", "identity": identity}
    lease = manner.lease
    settings |= {"lease": lease, "renew": lease * 2 / 3, "retry": lease * 2 / 15}
    if manner.kind == "steady":
        settings["stall"] = manner.stall
        await SteadyElector(lambda: connect(kubeconfig, timeout=5), **settings).run(body)
        return
    async with connect(kubeconfig, timeout=5) as api:
        await Elector(api, **settings).run(body)


if __name__ == "__main__":
    where, namespace_, identity_, file_, how = sys.argv[1:]
    wanted = Manner(**json.loads(how))
    # In the main thread, where the event loop is.
    signal.signal(signal.SIGUSR1, lambda *_: time.sleep(wanted.still))
    asyncio.run(main(where, namespace_, identity_, file_, wanted))
