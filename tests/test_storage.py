"""Files are whole or not there, and folders of this user are this user's alone."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdigits.errors import StorageError
from jaxdigits.storage import atomic_write, cache_root, private_folder, read_bounded, sha256, write_json

posix = pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX's")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def interrupted_write(path: Path, interruption: type[BaseException]) -> None:
    with atomic_write(path) as file:
        file.write(b"half of the n")
        raise interruption


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@given(st.binary(), st.binary())
def test_a_file_is_replaced_whole(tmp_path_factory: pytest.TempPathFactory, first: bytes, second: bytes):
    folder = tmp_path_factory.mktemp("whole")
    for content in (first, second):
        with atomic_write(folder / "a") as file:
            file.write(content)
        assert (folder / "a").read_bytes() == content
        assert names(folder) == ["a"]


def test_until_it_is_whole_the_old_one_is_there(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"old, and longer")
    with atomic_write(tmp_path / "a") as file:
        file.write(b"new")
        file.flush()
        assert (tmp_path / "a").read_bytes() == b"old, and longer"
        assert all(name.startswith(".") for name in set(names(tmp_path)) - {"a"})
    assert (tmp_path / "a").read_bytes() == b"new"


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
@pytest.mark.parametrize("existed", [True, False])
def test_an_interruption_leaves_things_as_they_were(
    tmp_path: Path, interruption: type[BaseException], existed: bool
):
    if existed:
        (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(interruption):
        interrupted_write(tmp_path / "a", interruption)
    assert names(tmp_path) == ["a"] * existed
    assert not existed or (tmp_path / "a").read_bytes() == b"old"


def test_a_full_disk_is_a_storage_error_and_leaves_the_old_file(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(StorageError, match=r"cannot write .*: No space left"), atomic_write(tmp_path / "a"):
        raise OSError(28, "No space left on device")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_where_no_file_can_be_is_a_storage_error(tmp_path: Path):
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "full").mkdir(parents=True)
    for path in ("missing/a", "file/a", "folder", "a" * 300):
        with pytest.raises(StorageError, match="cannot write") as caught, atomic_write(tmp_path / path):
            pass
        assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["file", "folder"]


@posix
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o027, 0o077])
def test_a_file_has_the_permissions_that_any_new_one_has(tmp_path: Path, mask: int):
    before = os.umask(mask)
    try:
        with atomic_write(tmp_path / "a"):
            pass
        (tmp_path / "like").touch()
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert mode(tmp_path / "a") == mode(tmp_path / "like") == 0o666 & ~mask


def test_json_is_whole_and_has_no_nan(tmp_path: Path):
    write_json(tmp_path / "a", {"x": [1, None, 0.5]})
    assert (tmp_path / "a").read_text() == '{\n  "x": [\n    1,\n    null,\n    0.5\n  ]\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a", float("nan"))
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text().startswith("{")


def test_a_sum_is_the_known_one(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"abc")  # the first example of FIPS 180-2
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@posix
@pytest.mark.parametrize("before", [None, 0o700, 0o755])
def test_a_private_folder_is_made_so_or_left_as_it_is(tmp_path: Path, before: int | None):
    folder = tmp_path / "folder"
    if before is not None:
        folder.mkdir()
        folder.chmod(before)
    assert private_folder(folder) == folder
    assert mode(folder) & 0o777 == (before or 0o700)
    (folder / "kept").touch()
    assert names(private_folder(folder)) == ["kept"]


@posix
@pytest.mark.parametrize("before", [0o775, 0o777, 0o1777])
def test_a_folder_that_others_may_write_to_is_refused_and_left_as_it_is(tmp_path: Path, before: int):
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(before)
    with pytest.raises(StorageError, match=r"others may write.*JAXDIGITS_CACHE"):
        private_folder(folder)
    assert mode(folder) & 0o7777 == before


def test_a_private_folder_is_made_with_its_parents(tmp_path: Path):
    assert private_folder(tmp_path / "a" / "b" / "c").is_dir()


def test_a_file_is_no_private_folder(tmp_path: Path):
    (tmp_path / "file").touch()
    for path in ("file", "file/under"):
        with pytest.raises(StorageError, match="cannot use the folder"):
            private_folder(tmp_path / path)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="users are POSIX's")
def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(StorageError, match=r"another user.*JAXDIGITS_CACHE"):
        private_folder(tmp_path)


def test_the_user_chooses_where_caches_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JAXDIGITS_CACHE", str(tmp_path / "chosen"))
    assert cache_root() == tmp_path / "chosen"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("JAXDIGITS_CACHE", "~/own")
    assert cache_root() == tmp_path / "own"
    monkeypatch.setenv("JAXDIGITS_CACHE", "~nosuchuser/own")
    assert cache_root().name == "own"
    monkeypatch.delenv("JAXDIGITS_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    assert tmp_path in cache_root().parents
    assert cache_root().name == "jaxdigits"


def test_no_more_is_read_than_may_be(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(bytes(1000))
    assert read_bounded(path, 1000) == bytes(1000)
    with pytest.raises(ValueError, match="larger than 999 bytes"):
        read_bounded(path, 999)
