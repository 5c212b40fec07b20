"""The gate: holds a pod until the agent says that its volumes are filled.

Problem: an application that starts on an empty volume initialises it, and the restore is ruined.
Decision: the first init container of a restored pod runs this file. It reads what the agent of the
node writes into an emptyDir of ours (one JSON file per volume), tells a person in its log how far
things are, and exits 0 when every volume is Completed or Released. On failure it keeps running and
repeats why: exiting would mean CrashLoopBackOff, or a bare pod lost for good. Only where a person
asked for exactly that (Refused) does it exit 1. It never writes, and never sees the volumes.
Limits: standard library only, without site (``python3 -I -S``), so that it starts in milliseconds
under any user on a read-only root. The names it shares with ararat/gate.py are held equal by a
test. Files are polled ten times a second: an inotify watch would need ctypes, which costs more to
import than this costs in a day.
"""

import json
import os
import signal
import sys
import time

DIRECTORY = "/ararat-gate"
POLL_SECONDS = 0.1
PROGRESS_SECONDS = 5.0
REPEAT_SECONDS = 60.0
SILENCE_SECONDS = 60.0
OPENING = ("Completed", "Released")
REFUSED = "Refused"
TURN = "ararat-turn"
LIMIT = 64 * 1024


class Settings:
    def __init__(self, arguments: list[str]) -> None:
        values = {
            "--restore": "",
            "--restore-uid": "",
            "--volumes": "",
            "--no-progress-seconds": "900",
            "--directory": DIRECTORY,
        }
        rest = list(arguments)
        while rest:
            name = rest.pop(0)
            if name not in values or not rest:
                raise ValueError(f"unknown or incomplete argument {name}")
            values[name] = rest.pop(0)
        self.restore = values["--restore"]
        self.restore_uid = values["--restore-uid"]
        self.volumes = [name for name in values["--volumes"].split(",") if name]
        self.no_progress_seconds = float(values["--no-progress-seconds"])
        self.directory = values["--directory"]
        if not self.restore_uid or not self.volumes:
            raise ValueError("--restore-uid and --volumes are needed")


class Volume:
    """What the agent last said about one volume."""

    def __init__(self, name: str, path: str, restore_uid: str) -> None:
        self.name = name
        self.path = path
        self.restore_uid = restore_uid
        self.answer: dict[str, object] = {}
        self.phase = ""
        self._seen: tuple[int, int] | None = None

    def read(self) -> bool:
        """Looks at the file; whether its phase changed."""
        try:
            info = os.stat(self.path)
            identity = (info.st_ino, info.st_mtime_ns)
            if identity == self._seen:
                return False
            with open(self.path, "rb") as file:
                answer = json.loads(file.read(LIMIT))
        except (OSError, ValueError):
            # Not there yet, or a half-written file of another hand: the next look tells.
            return False
        self._seen = identity
        # An answer meant for another restore (a volume of the same name) opens nothing.
        if not isinstance(answer, dict) or answer.get("restoreUID") != self.restore_uid:
            return False
        if answer.get("volume") != self.name:
            return False
        before = self.phase
        self.answer = answer
        self.phase = str(answer.get("phase", ""))
        return self.phase != before

    @property
    def open(self) -> bool:
        return self.phase in OPENING

    @property
    def heartbeat(self) -> float:
        return number(self.answer.get("heartbeat"))

    def line(self) -> str:
        message = str(self.answer.get("message") or "")
        if self.name == TURN:
            turn = message or "the pods before it are not ready yet"
            return f"order of start: {turn}"
        if not self.phase:
            return f"{self.name}: waiting for the agent on this node"
        if self.phase == "Filling":
            return f"{self.name}: {progress(self.answer)}{'; ' + message if message else ''}"
        if self.phase == "Waiting":
            return f"{self.name}: waiting{': ' + message if message else ''}"
        if self.phase in ("Failed", REFUSED):
            return f"{self.name}: {self.phase.upper()}: {message or 'no cause given'}"
        return f"{self.name}: {self.phase.lower()}{': ' + message if message else ''}"


def number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def progress(answer: dict[str, object]) -> str:
    """``120.3 of 212.0 MiB, 57 %, 4,031 files``"""
    done = number(answer.get("bytesDone"))
    total = number(answer.get("totalBytes"))
    files = int(number(answer.get("filesDone")))
    if total <= 0:
        return f"{done / 2**20:,.1f} MiB, {files:,} files"
    unit, name = (2**30, "GiB") if total >= 10 * 2**30 else (2**20, "MiB")
    percent = min(100, int(done * 100 / total))
    return f"{done / unit:,.1f} of {total / unit:,.1f} {name}, {percent} %, {files:,} files"


def say(text: str) -> None:
    sys.stdout.write(time.strftime("%H:%M:%S ", time.gmtime()) + text + "\n")
    sys.stdout.flush()


class Gate:
    """Decides, at each look, what to say and whether to go on. Time comes in as an argument."""

    def __init__(self, settings: Settings, volumes: list[Volume], started: float) -> None:
        self.settings = settings
        self.volumes = volumes
        self._started = started
        self._said: dict[str, tuple[str, float]] = {}
        self._silence_said = 0.0

    def look(self, now: float) -> tuple[list[str], bool]:
        """Lines to print, and whether the gate is open."""
        lines: list[str] = []
        for volume in self.volumes:
            changed = volume.read()
            text, at = self._said.get(volume.name, ("", 0.0))
            line = volume.line()
            pause = REPEAT_SECONDS if line == text else PROGRESS_SECONDS
            if volume.open:
                pause = float("inf")
            if changed or now - at >= pause:
                self._said[volume.name] = (line, now)
                lines.append(line)
        if all(volume.open for volume in self.volumes):
            return lines, True
        lines += self._silence(now)
        return lines, False

    @property
    def refused(self) -> bool:
        return any(volume.phase == REFUSED for volume in self.volumes)

    def _silence(self, now: float) -> list[str]:
        """Says so when nobody has spoken for a minute, and more once the deadline is over."""
        waiting = [v for v in self.volumes if not v.open and v.name != TURN]
        if not waiting:
            return []
        last = max([self._started, *(volume.heartbeat for volume in waiting)])
        quiet = now - last
        if quiet < SILENCE_SECONDS or now - self._silence_said < REPEAT_SECONDS:
            return []
        self._silence_said = now
        text = (
            f"no word from the agent on this node for {int(quiet)} s. "
            "Is its pod running? kubectl get pods -A -o wide -l app.kubernetes.io/component=agent"
        )
        if quiet >= self.settings.no_progress_seconds:
            text += (
                f" The pod stays here until restore {self.settings.restore} is retried or released:"
                f" ararat restore describe {self.settings.restore}"
            )
        return [text]


def main(arguments: list[str]) -> int:
    try:
        settings = Settings(arguments)
    except ValueError as error:
        sys.stderr.write(f"restore-wait: {error}\n")
        return 2
    # Exits at once and with the code the kubelet expects, instead of waiting for its SIGKILL.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    names = ", ".join(name for name in settings.volumes if name != TURN)
    say(f"restore {settings.restore} fills {names}; this pod starts when that is done")
    volumes = [
        Volume(name, os.path.join(settings.directory, name + ".json"), settings.restore_uid)
        for name in settings.volumes
    ]
    gate = Gate(settings, volumes, time.time())
    while True:
        lines, done = gate.look(time.time())
        for line in lines:
            say(line)
        if gate.refused:
            say("this pod is not to start: its volumes were given up")
            return 1
        if done:
            released = [v.name for v in volumes if v.phase == "Released" and v.name != TURN]
            say("going on all the same" if released else "all volumes are ready")
            return 0
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
