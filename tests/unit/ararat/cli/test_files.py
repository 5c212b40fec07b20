from __future__ import annotations

from ararat.cli import files


def test_a_listing_reads_like_ls() -> None:
    entry = {
        "uid": 33,
        "gid": 33,
        "size": 2048,
        "modified": "2026-11-22T10:00:00+00:00",
        "mode": 0o644,
        "type": "file",
        "path": "/a/b.txt",
    }
    # As Go writes them: a directory and a sticky bit far above the permissions.
    directory = {**entry, "type": "dir", "mode": (1 << 31) | (1 << 20) | 0o777, "path": "/a/tmp"}
    header, first, second = files.table([entry, directory]).splitlines()
    assert header.split() == ["MODE", "OWNER", "SIZE", "MODIFIED", "NAME"]
    assert first.split() == ["-rw-r--r--", "33:33", "2.0", "KiB", "2026-11-22", "10:00:00", "b.txt"]
    assert second.split() == ["drwxrwxrwt", "33:33", "-", "2026-11-22", "10:00:00", "tmp/"]
