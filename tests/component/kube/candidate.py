"""A process that runs an elector; its work is to write the time to a file, many times a second.

``python -m tests.component.kube.candidate KUBECONFIG NAMESPACE IDENTITY FILE``; the times are those
of the monotonic clock, which is the same in all processes.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from ararat.kube import Elector, connect


async def main(kubeconfig: str, namespace: str, identity: str, file: str) -> None:
    async def body() -> None:
        with Path(file).open("a") as out:
            while True:
                print(identity, time.monotonic(), file=out, flush=True)
                await asyncio.sleep(0.05)

    async with connect(kubeconfig, timeout=5) as api:
        elector = Elector(
            api, namespace=namespace, name="c", identity=identity, lease=3, renew=2, retry=0.4
        )
        await elector.run(body)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
