"""Patterns of files that are left out of a volume's backup: where they come from, what they are.

Problem: a pattern that leaves out more than was meant is found at the restore; one that restic
cannot read fails the volume in the middle of the night.
Decision: patterns come from the Backup, from an annotation of the pod and of the claim, and from a
file ``.araratignore`` in the volume's root. They are restic's, and checked by its rules before
anything starts; those in force are written into the node job and the manifest. A broken line in a
volume's own file is not in force, and is said: an application must not be able to stop its backup.
Limits: an annotation separates patterns by commas or lines, so that none of them can hold either.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

FILE = ".araratignore"
#: Patterns in all, and characters of one; more is a mistake.
MOST, LONGEST = 200, 1024
#: Stands for directories that say by a file CACHEDIR.TAG that they are caches.
CACHES = "CACHEDIR.TAG"


def annotated(key: str, *objects: Mapping[str, Any] | None) -> tuple[str, ...]:
    """What the annotation ``key`` of these objects excludes, each pattern once."""
    found: dict[str, None] = {}
    for obj in objects:
        annotations = ((obj or {}).get("metadata") or {}).get("annotations") or {}
        for part in re.split(r"[,\n]", annotations.get(key, "")):
            if part.strip():
                found[part.strip()] = None
    return tuple(found)


def of_file(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The patterns of an ``.araratignore``, and the lines that are none."""
    good: dict[str, None] = {}
    bad = []
    for line in text.splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        if problem(pattern) is None and len(good) < MOST:
            good[pattern] = None
        else:
            bad.append(pattern)
    return tuple(good), tuple(bad)


def mistakes(patterns: Iterable[str]) -> list[str]:
    """What is wrong with patterns that a person wrote, one sentence each."""
    return [
        f"{pattern[:80]!r} {wrong}"
        for pattern in patterns
        if (wrong := problem(pattern)) is not None
    ]


def problem(pattern: str) -> str | None:
    """Why restic would refuse a pattern (Go's filepath.Match), or None."""
    text = pattern.removeprefix("!")
    if not text.strip():
        return "is empty"
    if len(text) > LONGEST:
        return f"has more than {LONGEST} characters"
    if any(ord(character) < 0x20 for character in text):
        return "holds a control character"
    position = 0
    while position < len(text):
        character = text[position]
        if character == "\\":
            if position + 1 == len(text):
                return "ends in a backslash"
            position += 1
        elif character == "[":
            end = _class_end(text, position + 1)
            if end is None:
                return "has a [ without its ]"
            position = end
        position += 1
    return None


def match(path: str, patterns: Iterable[str]) -> bool:
    """Whether patterns leave out a file, by its path in the volume or a directory above it.

    restic decides what is left out; this is for telling afterwards why something is not there.
    """
    out = False
    for pattern in patterns:
        if _regex(pattern.removeprefix("!")).search(f"/{path}/"):
            out = not pattern.startswith("!")
    return out


@lru_cache(maxsize=256)
def _regex(pattern: str) -> re.Pattern[str]:
    begin = "^/" if pattern.startswith("/") else "/"
    parts = [part for part in pattern.split("/") if part]
    found = "".join("(?:[^/]*/)*" if part == "**" else f"{_component(part)}/" for part in parts)
    return re.compile(begin + found, re.DOTALL)


def _component(part: str) -> str:
    # Go's own sign for "none of" in a class is ^; fnmatch's is !.
    text = fnmatch.translate(part.replace("[^", "[!"))
    return text.removeprefix("(?s:").removesuffix(")\\Z").replace(".*", "[^/]*")


def _class_end(text: str, position: int) -> int | None:
    """Where the ``]`` of a character class is that holds at least one sound range."""
    if text[position : position + 1] == "^":
        position += 1
    ranges = 0
    while position < len(text):
        if text[position] == "]" and ranges:
            return position
        after = _one(text, position)
        if after is not None and text[after : after + 1] == "-":
            after = _one(text, after + 1)
        if after is None:
            return None
        position = after
        ranges += 1
    return None


def _one(text: str, position: int) -> int | None:
    """Behind one character of a class; None where there cannot be one."""
    if position >= len(text) or text[position] in "-]":
        return None
    if text[position] == "\\":
        position += 1
    return position + 1 if position < len(text) else None
