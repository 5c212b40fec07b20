"""The root directory's metadata survive; on whatever file system the tests run."""

import os
import stat
from pathlib import Path

import pytest

from agent.directory import opened
from agent.rootmeta import apply, capture, differences
from ararat.api.nodejob import RootMetadata

#: Only root may give files away; others keep to themselves.
OWNER = (1000, 2000) if os.geteuid() == 0 else (os.geteuid(), os.getegid())


def test_round_trip(tmp_path: Path):
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir(mode=0o700)
    os.chown(tmp_path / "from", *OWNER)
    os.chmod(tmp_path / "from", 0o2770)
    os.setxattr(tmp_path / "from", "user.note", b"\x00\xff")
    os.setxattr(tmp_path / "to", "user.stale", b"x")
    os.utime(tmp_path / "from", ns=(1, 1_234_567_890_123_456_789))
    with opened(tmp_path, "from") as source, opened(tmp_path, "to") as target:
        root = capture(source)
        assert apply(target, root) == []
        assert capture(target) == root
        assert differences(root, capture(target)) == []
    info = (tmp_path / "to").stat()
    assert (info.st_uid, info.st_gid) == OWNER
    assert stat.S_IMODE(info.st_mode) == 0o2770
    assert info.st_mtime_ns == 1_234_567_890_123_456_789
    assert os.listxattr(tmp_path / "to") == ["user.note"]


def test_acls_are_kept(tmp_path: Path):
    # A POSIX ACL as the kernel stores it: version 2; user::rwx, user:1000:r-x, group::r-x,
    # mask::r-x, other::---.
    entries = [(1, 7, -1), (2, 5, 1000), (4, 5, -1), (16, 5, -1), (32, 0, -1)]
    acl = (2).to_bytes(4, "little") + b"".join(
        tag.to_bytes(2, "little")
        + permission.to_bytes(2, "little")
        + (who & 0xFFFFFFFF).to_bytes(4, "little")
        for tag, permission, who in entries
    )
    for name in ("from", "to"):
        (tmp_path / name).mkdir()
    try:
        os.setxattr(tmp_path / "from", "system.posix_acl_access", acl)
        os.setxattr(tmp_path / "from", "system.posix_acl_default", acl)
    except OSError as exc:
        pytest.fail(f"{tmp_path} keeps no ACLs ({exc.strerror}): name another place by --basetemp")
    with opened(tmp_path, "from") as source, opened(tmp_path, "to") as target:
        root = capture(source)
        assert apply(target, root) == []
        assert capture(target) == root


def test_what_is_refused_is_said(tmp_path: Path):
    (tmp_path / "to").mkdir()
    with opened(tmp_path, "to") as target:
        root = capture(target).model_copy(update={"xattrs": {"nonsense.name": "eA=="}})
        refused = apply(target, root)
    assert len(refused) == 1
    assert refused[0].startswith("nonsense.name (")


def test_differences_name_what_differs():
    one = RootMetadata(mode=0o755, uid=0, gid=0, mtime_ns=1, xattrs={"security.selinux": "YQ=="})
    other = one.model_copy(update={"mode": 0o700, "mtime_ns": 2, "xattrs": {"user.x": "YQ=="}})
    assert differences(one, other) == ["mode", "mtime_ns", "user.x"]
