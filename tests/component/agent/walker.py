"""An independent look at a directory tree, to compare two of them. Shares no code with the product.

Names are bytes. What a restore cannot bring back by its nature is left out: inode numbers, link
counts' identities (compared as groups), ctime, atime, birth time, sockets, the device number.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from pathlib import Path
from typing import Any

Tree = dict[bytes, dict[str, Any]]


def walk(root: Path) -> Tree:
    """Everything below ``root``, itself as ``b"."``."""
    tree: Tree = {b".": _look(os.fsencode(root))}
    groups: dict[tuple[int, int], list[bytes]] = {}
    base = os.fsencode(root)
    for directory, names, files in os.walk(base):
        for name in names + files:
            path = os.path.join(directory, name)
            info = os.lstat(path)
            if stat.S_ISSOCK(info.st_mode):
                continue
            relative = os.path.relpath(path, base)
            tree[relative] = _look(path)
            if not stat.S_ISDIR(info.st_mode) and info.st_nlink > 1:
                groups.setdefault((info.st_dev, info.st_ino), []).append(relative)
    for group in groups.values():
        for relative in group:
            tree[relative]["hard links"] = sorted(group)
    return tree


def _look(path: bytes) -> dict[str, Any]:
    info = os.lstat(path)
    found: dict[str, Any] = {
        "mode": oct(info.st_mode),
        "owner": (info.st_uid, info.st_gid),
        "mtime": info.st_mtime_ns,
        "xattrs": {
            name: os.getxattr(path, name, follow_symlinks=False)
            for name in os.listxattr(path, follow_symlinks=False)
            # XFS shows an ACL a second time, to root only.
            if not name.startswith("trusted.SGI_ACL")
        },
    }
    if stat.S_ISREG(info.st_mode):
        found["size"] = info.st_size
        found["sha256"] = _digest(path)
        # A file with holes must not come back with more than a little more on the disk.
        found["sparse"] = info.st_blocks * 512 < info.st_size // 2
    elif stat.S_ISLNK(info.st_mode):
        found["target"] = os.readlink(path)
    elif stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
        found["device"] = (os.major(info.st_rdev), os.minor(info.st_rdev))
    return found


def features(tree: Tree) -> dict[str, int]:
    """What of all that a file system can hold is in the tree, and how often."""
    found: Counter[str] = Counter()
    parents = {os.path.dirname(path) or b"." for path in tree if path != b"."}
    kinds = {
        stat.S_IFREG: "files",
        stat.S_IFDIR: "directories",
        stat.S_IFLNK: "symbolic links",
        stat.S_IFIFO: "fifos",
        stat.S_IFCHR: "character devices",
        stat.S_IFBLK: "block devices",
    }
    for path, entry in tree.items():
        mode = int(entry["mode"], 8)
        target = entry.get("target", b"x")
        found[kinds[stat.S_IFMT(mode)]] += 1
        found.update(
            name
            for name, there in {
                "empty directories": stat.S_ISDIR(mode) and path not in parents,
                "dangling links": target.startswith(b"nowhere"),
                "absolute links": target.startswith(b"/"),
                "owners": entry["owner"] != (0, 0),
                "owners above 2^31": max(entry["owner"]) > 2**31,
                "setuid": bool(mode & stat.S_ISUID),
                "setgid": bool(mode & stat.S_ISGID),
                "sticky": bool(mode & stat.S_ISVTX),
                "times with nanoseconds": entry["mtime"] % 1000 != 0,
                "times before 1970": entry["mtime"] < 0,
                "names that are not UTF-8": not _utf8(path),
                "names of other signs": not path.decode(errors="replace").isprintable(),
                "hard links": "hard links" in entry,
                "sparse files": bool(entry.get("sparse")),
                "contents by SHA-256": "sha256" in entry,
                "user attributes": any(name.startswith("user.") for name in entry["xattrs"]),
                "capabilities": "security.capability" in entry["xattrs"],
                "access lists": "system.posix_acl_access" in entry["xattrs"],
                "default access lists": "system.posix_acl_default" in entry["xattrs"],
            }.items()
            if there
        )
    return dict(found)


def _utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _digest(path: bytes) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def differences(before: Tree, after: Tree) -> list[str]:
    """One line per thing that is missing, new, or different."""
    found = [f"missing: {path!r}" for path in sorted(before.keys() - after.keys())]
    found += [f"new: {path!r}" for path in sorted(after.keys() - before.keys())]
    for path in sorted(before.keys() & after.keys()):
        for key in before[path].keys() | after[path].keys():
            one, other = before[path].get(key), after[path].get(key)
            if one != other:
                found.append(f"{path!r}: {key}: {one!r} became {other!r}")
    return found


def every_kind_of_file(root: Path) -> None:
    """Fills ``root`` with one of everything that a volume can hold."""
    base = os.fsencode(root)

    def path(name: bytes) -> bytes:
        return os.path.join(base, name)

    def file(name: bytes, content: bytes = b"x", mode: int = 0o644) -> bytes:
        with open(path(name), "wb") as opened:
            opened.write(content)
        os.chmod(path(name), mode)
        return path(name)

    file(b"plain", os.urandom(100_000))
    file(b"empty", b"")
    os.chown(file(b"owned"), 1234, 5678)
    os.chown(file(b"nobody's", b"z"), 2**31 + 5, 2**32 - 3)
    file(b"setuid", mode=0o4755)
    file(b"setgid", mode=0o2755)
    file(b"unreadable", mode=0o000)
    file(b"not \xff\xfe utf-8")
    file(b"new\nline")
    file(b"blank  ")
    file(b"-dash")
    file("käse ☃".encode())
    file(b"n" * 255)
    os.utime(file(b"nanoseconds"), ns=(1, 1_234_567_890_123_456_789))
    os.utime(file(b"before 1970"), ns=(1, -1_234_567_890))
    attributed = file(b"attributes")
    os.setxattr(attributed, "user.text", b"value")
    os.setxattr(attributed, "user.bytes", bytes(range(256)))
    # cap_net_bind_service=ep, as the kernel stores it.
    os.setxattr(
        file(b"capable", mode=0o755),
        "security.capability",
        bytes.fromhex("0100000200040000000000000000000000000000"),
    )
    with open(path(b"sparse"), "wb") as opened:
        opened.truncate(8 << 20)
        opened.seek(4 << 20)
        opened.write(b"island")
    file(b"linked 1", b"one inode")
    os.mkdir(path(b"deep"))
    os.link(path(b"linked 1"), path(b"linked 2"))
    os.link(path(b"linked 1"), path(b"deep/linked 3"))
    os.symlink(b"plain", path(b"link"))
    os.symlink(b"/etc/passwd", path(b"absolute link"))
    os.symlink(b"nowhere/\xff", path(b"dangling link"))
    os.lchown(path(b"link"), 77, 88)
    os.utime(path(b"link"), ns=(1, 1_500_000_000_000_000_001), follow_symlinks=False)
    os.mkfifo(path(b"fifo"), 0o640)
    os.mknod(path(b"character"), stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(path(b"block"), stat.S_IFBLK | 0o600, os.makedev(7, 77))
    os.mkdir(path(b"empty directory"))
    os.mkdir(path(b"sticky"))
    os.chmod(path(b"sticky"), 0o1777)
    os.mkdir(path(b"setgid directory"))
    os.chown(path(b"setgid directory"), 0, 4242)
    os.chmod(path(b"setgid directory"), 0o2775)
    acl = _acl()
    try:
        os.setxattr(file(b"acl"), "system.posix_acl_access", acl)
        os.setxattr(path(b"setgid directory"), "system.posix_acl_default", acl)
    except OSError:  # tmpfs without ACLs
        pass
    nested = b"deep"
    for number in range(20):
        nested = os.path.join(nested, b"level%02d" % number)
        os.mkdir(path(nested))
    file(os.path.join(nested, b"bottom"))
    os.utime(path(b"deep"), ns=(1, 1_400_000_000_000_000_007))
    os.chown(base, 1000, 2000)
    os.chmod(base, 0o2770)
    os.setxattr(base, "user.root", b"kept")
    os.utime(base, ns=(1, 1_300_000_000_000_000_009))


def _acl() -> bytes:
    """user::rw-, user:1000:r--, group::r--, mask::r--, other::---."""
    entries = [(1, 6, -1), (2, 4, 1000), (4, 4, -1), (16, 4, -1), (32, 0, -1)]
    return (2).to_bytes(4, "little") + b"".join(
        tag.to_bytes(2, "little")
        + permission.to_bytes(2, "little")
        + (who & 0xFFFFFFFF).to_bytes(4, "little")
        for tag, permission, who in entries
    )
