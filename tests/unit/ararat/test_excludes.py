from __future__ import annotations

import pytest

from ararat import excludes
from ararat.api.backup import BackupVolumes

KEY = "ararat.dev/exclude"


def annotated(text: str) -> dict[str, object]:
    return {"metadata": {"annotations": {KEY: text}}}


def test_patterns_of_pod_and_claim_come_together_once() -> None:
    pod = annotated("*.tmp, cache/,\n/var/log ,, *.tmp")
    claim = annotated("*.tmp,core.*")
    assert excludes.annotated(KEY, pod, None, claim) == ("*.tmp", "cache/", "/var/log", "core.*")
    assert excludes.annotated(KEY, {"metadata": {}}, {}, None) == ()


def test_a_file_of_patterns_may_have_comments_and_broken_lines() -> None:
    good, bad = excludes.of_file("# caches\n\n*.tmp\n  /logs/**  \n[\n!keep.tmp\n*.tmp\r\na,b\n")
    assert good == ("*.tmp", "/logs/**", "!keep.tmp", "a,b")
    assert bad == ("[",)
    many, rest = excludes.of_file("\n".join(f"file{n}" for n in range(excludes.MOST + 5)))
    assert (len(many), len(rest)) == (excludes.MOST, 5)


@pytest.mark.parametrize(
    "pattern",
    ["*.tmp", "/a/b", "**/x", "[a-z]*", "[^a]", "\\[", "a]", "!x", "ä", "[\\]]", "cache/", "a b"],
)
def test_sound_patterns(pattern: str) -> None:
    assert excludes.problem(pattern) is None


@pytest.mark.parametrize(
    "pattern",
    ["", " ", "!", "[", "[]", "[a", "[a-", "[a-]", "[-]", "[^]", "a\\", "a\nb", "x" * 2000],
)
def test_patterns_that_restic_would_refuse(pattern: str) -> None:
    assert excludes.problem(pattern)
    with pytest.raises(ValueError, match=r"is empty|character|backslash|without"):
        BackupVolumes(excludes=[pattern])
    assert len(excludes.mistakes(["*.ok", pattern])) == 1


@pytest.mark.parametrize(
    ("path", "patterns", "out"),
    [
        ("a.tmp", ["*.tmp"], True),
        ("deep/a.tmp", ["*.tmp"], True),
        ("a.tmp/below", ["*.tmp"], True),
        ("a.tmpx", ["*.tmp"], False),
        ("a/b", ["*"], True),
        ("log/x", ["/log"], True),
        ("deep/log/x", ["/log"], False),
        ("deep/log/x", ["log/"], True),
        ("a/b/c/d", ["a/**/d"], True),
        ("a/d", ["/a/**/d"], True),
        ("a/b/d", ["a/*/d"], True),
        ("a/b/c/d", ["a/*/d"], False),
        ("f1", ["f[^0-5]"], False),
        ("f7", ["f[^0-5]"], True),
        ("keep/a.tmp", ["*.tmp", "!keep/*"], False),
        ("two\nlines", ["two?lines"], True),
        ("anything", [], False),
    ],
)
def test_what_a_pattern_leaves_out(path: str, patterns: list[str], out: bool) -> None:
    assert excludes.match(path, patterns) is out
