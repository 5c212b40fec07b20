"""``python -m controller``: the controller. ``python -m controller show ...``: what is stored;
``ls`` and ``cat``: files of volumes in a backup; ``check-location``: whether one works.

These are what the CLI runs in a controller's container, so that whoever has a kubeconfig and may
exec there needs no access to the store.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from ararat import daemon
from ararat.errors import AraratError
from ararat.log import configure
from controller.config import Config


async def _run(config: Config) -> None:
    from controller.app import run

    await daemon.need_restic()
    await run(config)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m controller", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    show = commands.add_parser("show", help="print what a location holds of a backup or restore")
    show.add_argument(
        "what",
        choices=[
            *("manifest", "results", "hooks", "backup-log", "restore-log", "restore-hooks"),
            *("retention", "coverage"),
        ],
    )
    show.add_argument("name")
    show.add_argument(
        "--follow", action="store_true", help="of a log: while the run is under way, as it grows"
    )
    for command, text in (
        ("ls", "list a directory of a volume in a backup, as JSON lines"),
        ("cat", "print one file of a volume in a backup"),
    ):
        files = commands.add_parser(command, help=text)
        files.add_argument("backup")
        files.add_argument("volume", help="namespace/claim, or namespace/pod/volume")
        files.add_argument("path", nargs="?" if command == "ls" else None, default="/")
    check = commands.add_parser("check-location", help="try a location out, as JSON lines")
    check.add_argument("name")
    arguments = parser.parse_args()
    daemon.prepare()
    try:
        config = Config.from_env(os.environ)
        if arguments.command == "show":
            from controller.show import follow_run
            from controller.show import show as show_stored

            configure("error", json=True)
            work = follow_run if arguments.follow else show_stored
            asyncio.run(work(config, arguments.what, arguments.name, sys.stdout.buffer))
            return 0
        if arguments.command == "check-location":
            from controller.location.check import check as check_location

            configure("error", json=True)
            asyncio.run(check_location(config, arguments.name, sys.stdout.buffer))
            return 0
        if arguments.command in ("ls", "cat"):
            from controller.files import list_files, read_file

            configure("error", json=True)
            what = list_files if arguments.command == "ls" else read_file
            asyncio.run(
                what(
                    config,
                    arguments.backup,
                    arguments.volume,
                    arguments.path,
                    sys.stdout.buffer,
                )
            )
            return 0
        configure(config.log_level, json=config.log_json)
        asyncio.run(_run(config))
    except AraratError as exc:
        sys.stderr.write(f"error: {exc.message}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
