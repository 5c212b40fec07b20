"""``python -m agent``: settings from the environment, signals, exit code.

``python -m agent maintain`` is what a maintenance job runs, once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from ararat import daemon, log
from ararat.errors import AraratError
from ararat.kube import connect

from .app import Agent
from .config import AgentConfig, from_environment


async def _main(config: AgentConfig) -> None:
    await daemon.need_restic()
    async with connect() as api:
        agent = Agent(config, api)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, agent.stop)
        await agent.run()


def main() -> int:
    daemon.prepare()
    try:
        config = from_environment(os.environ)
    except AraratError as error:
        sys.stderr.write(f"ararat-agent: {error.message}\n")
        return 2
    log.configure(config.log_level, json=config.log_json)
    # Files are made for this process alone, except where a mode is given.
    os.umask(0o077)
    try:
        if sys.argv[1:] == ["maintain"]:
            from .maintain import main as maintain

            return asyncio.run(maintain(config, os.environ))
        asyncio.run(_main(config))
    except AraratError as error:
        sys.stderr.write(f"ararat-agent: {error.message}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
