"""The folder for compiled code: no other user can write to it, or put another in its place."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from dkde.numerics import cache_folder
from dkde.numerics.cache_folder import make_private, user_cache

ME = os.getuid()


@pytest.fixture
def base(tmp_path):
    """A folder of this user alone, all above it included."""
    assert make_private(tmp_path / "mine") == ""
    return tmp_path / "mine"


def mode(path):
    return path.stat().st_mode & 0o7777


def test_what_is_missing_is_made_for_this_user_alone(base):
    before = os.umask(0)
    try:
        assert make_private(base / "a" / "b") == ""
    finally:
        os.umask(before)
    assert (mode(base / "a"), mode(base / "a" / "b")) == (0o700, 0o700)


def test_a_folder_of_before_is_closed(base):
    (base / "old").mkdir(mode=0o755)
    (base / "old" / "numerics_1").mkdir(mode=0o755)
    assert make_private(base / "old") == ""
    assert mode(base / "old") == 0o700


@pytest.mark.parametrize("open_one", ["shared", "shared/dkde", "shared/dkde/code"])
@pytest.mark.parametrize("bits", [0o777, 0o702])
def test_what_others_may_write_to(base, open_one, bits):
    folder = base / "shared" / "dkde" / "code"
    assert make_private(folder) == ""
    (base / open_one).chmod(bits)
    assert make_private(folder) == f"other users may write to {base / open_one}"


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="lists of Linux")
def test_what_others_may_write_to_by_name(base, monkeypatch):
    """The mode shows such a right as that of the group, which may be this user's own."""
    monkeypatch.setattr(cache_folder, "_is_own_group", lambda number: True)
    entries = [(1, 7, -1), (2, 7, 65534), (4, 0, -1), (16, 7, -1), (32, 0, -1)]
    packed = b"".join(struct.pack("<HHi", *each) for each in entries)
    try:
        os.setxattr(base, "system.posix_acl_access", struct.pack("<I", 2) + packed)
    except OSError:
        pytest.skip("the file system has no lists of access")
    assert make_private(base / "code") == f"other users may write to {base}"


def test_a_folder_within_that_is_open(base):
    folder = base / "c"
    folder.mkdir(mode=0o755)
    (folder / "inner").mkdir()
    (folder / "inner").chmod(0o777)
    assert make_private(folder) == f"other users may write to {folder / 'inner'}"


def test_a_sticky_folder_above_but_not_itself(base):
    (base / "tmp").mkdir()
    (base / "tmp").chmod(0o1777)
    assert make_private(base / "tmp" / "mine") == ""
    assert make_private(base / "tmp") == f"other users may write to {base / 'tmp'}"


def test_links_are_followed(base):
    (base / "open").mkdir()
    (base / "open").chmod(0o777)
    (base / "open" / "mine").mkdir(mode=0o700)
    (base / "one").symlink_to("two")
    (base / "two").symlink_to(base / "one" / ".." / "open" / "mine")
    (base / "two").unlink()
    (base / "two").symlink_to(Path("..") / base.name / "open" / "mine")
    assert make_private(base / "one") == f"other users may write to {base / 'open'}"
    (base / "round").symlink_to("round")
    assert "symbolic links" in make_private(base / "round")


def test_a_group_of_others(base, monkeypatch):
    (base / "g").mkdir()
    (base / "g").chmod(0o770)
    monkeypatch.setattr(cache_folder, "_is_own_group", lambda number: False)
    assert make_private(base / "g") == f"other users may write to {base / 'g'}"
    monkeypatch.setattr(cache_folder, "_is_own_group", lambda number: True)
    assert make_private(base / "g") == ""


@pytest.mark.skipif(ME != 0, reason="root alone gives folders away")
@pytest.mark.parametrize("given", ["x", "x/dkde"])
def test_a_folder_of_another_user(base, given):
    folder = base / "x" / "dkde"
    assert make_private(folder) == ""
    os.chown(base / given, 12345, 12345)
    assert make_private(folder) == f"{base / given} belongs to another user"


def test_a_folder_that_cannot_be_made(base):
    (base / "file").touch()
    assert "file" in make_private(base / "file" / "dkde")


@pytest.mark.parametrize("given", ["", "relative/cache", "./x"])
def test_a_relative_cache_is_ignored(monkeypatch, given, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    assert user_cache() == tmp_path / ".cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert user_cache() == tmp_path / "c"


SCRIPT = """
import warnings
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    from dkde.numerics.limits import limit
    from dkde.numerics.tree import Tree
    from dkde.numerics import compiling
    twice = compiling.compiled()(lambda x: 2 * x)
    assert twice(3.0) == 6.0
print(*[each.message for each in told if "compiled" in str(each.message)], sep="\\n")
"""


@pytest.mark.slow
def test_code_is_not_kept_in_a_folder_of_others(base):
    (base / "open").mkdir()
    (base / "open").chmod(0o777)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(base / "open")}
    said = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert len(said.splitlines()) == 1
    assert f"other users may write to {base / 'open'}; set NUMBA_CACHE_DIR" in said
    assert not list((base / "open").rglob("*.nb?"))
