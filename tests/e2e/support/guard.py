"""Starts a server only on a volume that holds its data, and keeps a record of what it saw.

    python3 guard.py --volume DIR [--first COMMAND] -- SERVER [ARGUMENT...]

Problem: "no application container ever ran on an empty volume" has to be shown from inside.
Decision: this is the first thing in an application's container. It walks the volume, keeps the
walk in $GUARD_RECORDS (an emptyDir; one file per start), prints one line `GUARD {json}` with its
digest, and becomes the server. On an empty volume it runs COMMAND if FIRST_INSTALL is "yes" (the
environment takes it from a ConfigMap that the user deletes after the first installation), else it
prints EMPTY VOLUME and exits 1.
Limits: it sees its own start only; that the volume was whole is shown by comparing the kept walk
with one taken before the backup.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

import walker  # type: ignore[import-not-found]  # beside this file in the container


def main(arguments: list[str]) -> int:
    """Look, record, then become the server; returns only where that is refused."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--volume", required=True)
    parser.add_argument("--first")
    parser.add_argument("server", nargs="+")
    options = parser.parse_args(arguments)

    began = time.time()
    entries = list(walker.walk(options.volume))
    lines = [json.dumps(entry, sort_keys=True) for entry in entries]
    contents = [e for e in entries if e["path"] not in (".", "lost+found")]
    first = os.environ.get("FIRST_INSTALL") == "yes"
    record = {
        "volume": options.volume,
        "began": began,
        "seconds": round(time.time() - began, 3),
        "entries": len(contents),
        "bytes": sum(e.get("size", 0) for e in contents),
        "digest": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        "empty": not contents,
        "first_install": first,
    }
    _keep(lines)
    print("GUARD " + json.dumps(record), flush=True)
    if record["empty"]:
        if not first:
            message = f"EMPTY VOLUME {options.volume}: this application does not start on nothing"
            print(message, flush=True)
            return 1
        if options.first:
            subprocess.run(["/bin/sh", "-ec", options.first], check=True)
    return _become(options.server)


def _become(server: list[str]) -> NoReturn:
    os.execvp(server[0], server)


def _keep(lines: list[str]) -> None:
    """Store the walk as start-N.jsonl, N counting this pod's starts of the container."""
    directory = os.environ.get("GUARD_RECORDS")
    if directory:
        number = len(list(Path(directory).glob("start-*.jsonl"))) + 1
        Path(directory, f"start-{number}.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
