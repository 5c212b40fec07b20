"""The mount table, from fabricated mountinfo and from this machine's own."""

import os
from pathlib import Path

import pytest

from agent.mounts import Mount, mount_id_of, parse, read_mounts

ROOT = b"1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw"


def table(*lines: bytes):
    return parse(b"\n".join((ROOT, *lines)) + b"\n")


def test_every_field_is_read():
    found = table(
        b"36 1 0:42 /sub /var/lib/kubelet ro,noatime shared:7 master:3 unbindable - nfs4 srv:/x rw"
    ).by_id(36)
    assert found == Mount(
        id=36,
        parent=1,
        device=(0, 42),
        root="/sub",
        point="/var/lib/kubelet",
        fstype="nfs4",
        source="srv:/x",
        read_only=True,
    )


def test_optional_fields_may_be_missing():
    assert table(b"2 1 0:5 / /proc rw - proc proc rw").by_id(2).fstype == "proc"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (rb"/a\040b", "/a b"),
        (rb"/a\011b\012c", "/a\tb\nc"),
        (rb"/a\134040", r"/a\040"),
        (b"/caf\xc3\xa9", "/café"),
        (b"/raw\xff", "/raw\udcff"),
    ],
)
def test_octal_escapes(written: bytes, meant: str):
    mounts = table(b"5 1 0:9 / " + written + b" rw - tmpfs tmpfs rw")
    assert mounts.at(meant) is not None
    assert os.fsencode(mounts.at(meant).point) == os.fsencode(meant)


@pytest.mark.parametrize(
    "line", [b"nonsense", b"1 2 3:4 / /x rw tmpfs tmpfs rw", b"a b c d e f - g h i"]
)
def test_unknown_lines_are_refused(line: bytes):
    with pytest.raises(ValueError, match="unknown line"):
        parse(line)


def test_a_plain_directory_is_not_a_mount_point():
    mounts = table(b"2 1 0:9 / /pods/a/mount rw - ext4 /dev/sdb rw")
    assert mounts.at("/pods/b/mount") is None
    assert mounts.containing("/pods/b/mount").id == 1
    assert mounts.at("/pods/a/mount").id == 2
    assert mounts.containing("/pods/a/mount/deep/er").id == 2


def test_names_that_merely_start_alike():
    mounts = table(b"2 1 0:9 / /pods/a rw - tmpfs t rw")
    assert mounts.containing("/pods/ab").id == 1


def test_of_stacked_mounts_the_upper_one_is_seen():
    mounts = table(b"2 1 0:9 / /v rw - ext4 lower rw", b"3 2 0:10 / /v rw - tmpfs upper rw")
    assert mounts.at("/v").source == "upper"


def test_a_covered_mount_is_not_seen():
    # /a/b was mounted first; then something was mounted over /a: the path leads into the latter.
    mounts = table(b"2 1 0:9 / /a/b rw - ext4 hidden rw", b"3 1 0:10 / /a rw - tmpfs cover rw")
    assert mounts.at("/a/b") is None
    assert mounts.containing("/a/b").source == "cover"


def test_a_mount_made_inside_the_cover_is_seen():
    mounts = table(
        b"2 1 0:9 / /a/b rw - ext4 hidden rw",
        b"3 1 0:10 / /a rw - tmpfs cover rw",
        b"4 3 0:11 / /a/b rw - ext4 visible rw",
    )
    assert mounts.at("/a/b").source == "visible"


def test_without_a_root_entry():
    # In a chroot that is no mount point itself the kernel leaves the root's own line out.
    mounts = parse(b"2 1 0:9 / /v rw - tmpfs t rw\n")
    assert str(mounts.at("/v")) == "tmpfs t on /v"
    assert mounts.containing("/elsewhere") is None


def test_below():
    mounts = table(
        b"2 1 0:9 / /v rw - tmpfs t rw",
        b"3 2 0:9 / /v/sub rw - tmpfs t rw",
        b"4 1 0:9 / /vx rw - tmpfs t rw",
    )
    assert [mount.id for mount in mounts.below("/v")] == [3]


def test_descriptors_and_table_agree_on_this_machine(tmp_path: Path):
    mounts = read_mounts()
    for path in ("/proc", str(tmp_path.resolve())):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            found = mounts.containing(path)
            assert found is not None
            assert found.id == mount_id_of(fd)
        finally:
            os.close(fd)
