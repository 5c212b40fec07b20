"""No link leads out of the kubelet's root."""

import os
from pathlib import Path

import pytest

from agent.directory import is_empty, open_beneath, opened


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "root/pods/u-1/volumes").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    return tmp_path


def test_opens_what_is_there(tree: Path):
    with opened(tree / "root", "pods", "u-1", "volumes") as fd:
        assert os.path.samestat(os.fstat(fd), (tree / "root/pods/u-1/volumes").stat())


@pytest.mark.parametrize("link", ["pods/u-1/volumes/evil", "pods/evil", "evil"])
def test_links_are_not_followed(tree: Path, link: str):
    (tree / "root" / link).symlink_to(tree / "secret", target_is_directory=True)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        open_beneath(tree / "root", *link.split("/"))


def test_a_link_in_the_middle(tree: Path):
    (tree / "secret/volumes").mkdir()
    (tree / "root/pods/u-2").symlink_to(tree / "secret", target_is_directory=True)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        open_beneath(tree / "root", "pods", "u-2", "volumes")


@pytest.mark.parametrize("component", ["..", ".", "", "a/b", "/etc", "x\0y"])
def test_only_plain_names(tree: Path, component: str):
    with pytest.raises(ValueError, match="plain file name"):
        open_beneath(tree / "root", component)


def test_missing(tree: Path):
    with pytest.raises(FileNotFoundError):
        open_beneath(tree / "root", "pods", "u-9")


def test_no_descriptor_is_left(tree: Path):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(FileNotFoundError):
            open_beneath(tree / "root", "pods", "u-9", "volumes")
        with opened(tree / "root", "pods"):
            pass
    assert len(os.listdir("/proc/self/fd")) == before


def test_emptiness(tree: Path):
    with opened(tree, "secret") as fd:
        assert is_empty(fd) == (True, "")
        (tree / "secret/lost+found").mkdir()
        assert is_empty(fd, ignore=frozenset(("lost+found",))) == (True, "")
        assert is_empty(fd) == (False, "lost+found")
        (tree / "secret/file").touch()
        assert is_empty(fd, ignore=frozenset(("lost+found",))) == (False, "file")
