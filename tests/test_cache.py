"""Folders that are whole, or found not to be."""

import concurrent.futures
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdigits import cache
from jaxdigits.errors import StorageError

from .idx_files import one_line

FILES = {"one": b"first", "folder/two": b"second", "last": bytes(3000)}


def build(folder: Path) -> None:
    (folder / "folder").mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cache.install(tmp_path / "installed", build)
    return tmp_path / "installed"


# Folders.


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "short": lambda path: path.write_bytes(path.read_bytes()[:-2]),
    "long": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "flipped": flip,
    "folder": as_folder,
}


def test_installed_is_what_was_built(folder: Path):
    assert {file: content.tobytes() for file, content in cache.contents(folder)} == FILES
    assert cache.intact(folder)
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("file", ["sha256.json", *FILES])
def test_damage_is_found_and_mended(folder: Path, file: str, damage: str):
    DAMAGE[damage](folder / file)
    assert not cache.intact(folder)
    with pytest.raises(cache.DAMAGE):
        dict(cache.contents(folder))
    cache.install(folder, build)
    assert cache.intact(folder)


@pytest.mark.parametrize("entry", ["sha256.json", "one", "folder"])
def test_a_link_that_leads_out_is_not_followed(folder: Path, entry: str):
    outside = folder.parent / "outside"
    (folder / entry).rename(outside)
    (folder / entry).symlink_to(outside)
    assert not cache.intact(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX's")
@pytest.mark.parametrize("file", ["sha256.json", "one"])
def test_a_pipe_is_not_waited_for(folder: Path, file: str):
    (folder / file).unlink()
    os.mkfifo(folder / file)
    assert not cache.intact(folder)


@pytest.mark.parametrize("form", ["nothing", "file", "empty folder", "dangling link"])
def test_something_else_in_place_of_a_folder(tmp_path: Path, form: str):
    place = tmp_path / "place"
    if form == "file":
        place.write_text("?")
    elif form == "empty folder":
        place.mkdir()
    elif form == "dangling link":
        place.symlink_to("nowhere")
    assert not cache.intact(place)
    cache.install(place, build)
    assert cache.intact(place)
    assert list(tmp_path.iterdir()) == [place]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_list_of_sums_is_survived(data: st.DataObject):
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "installed"
        cache.install(folder, build)
        sums = (folder / "sha256.json").read_bytes()
        at = data.draw(st.integers(0, len(sums) - 1))
        flipped = sums[:at] + bytes([sums[at] ^ 1]) + sums[at + 1 :]
        other = [b"[]", b"{}", b"null", b'{"one": 1}', b'{"one": [5, null]}', b"[" * 100_000]
        broken = data.draw(st.sampled_from([sums[:at], flipped, *other]))
        (folder / "sha256.json").write_bytes(broken)
        assert not cache.intact(folder) or json.loads(broken) == json.loads(sums)


def test_what_another_process_installed_meanwhile_is_kept(tmp_path: Path):
    place = tmp_path / "place"

    def slow(folder: Path) -> None:
        cache.install(place, build)
        build(folder)
        (folder / "one").write_text("mine")

    cache.install(place, slow)
    assert {file: content.tobytes() for file, content in cache.contents(place)} == FILES
    assert list(tmp_path.iterdir()) == [place]


def test_a_folder_without_a_file_that_is_new_is_replaced(folder: Path):
    def newer(folder: Path) -> None:
        build(folder)
        (folder / "more").write_text("")

    cache.install(folder, newer)
    assert cache.intact(folder, ["more"])
    assert list(folder.parent.iterdir()) == [folder]


def test_only_the_files_that_are_asked_for_are_read(folder: Path):
    flip(folder / "last")
    assert {file: content.tobytes() for file, content in cache.contents(folder, "one")} == {"one": b"first"}
    with pytest.raises(cache.DAMAGE):
        dict(cache.contents(folder, "other"))


def test_many_at_once_leave_one_whole_folder(tmp_path: Path):
    place = tmp_path / "place"
    together = threading.Barrier(4)

    def waiting(folder: Path) -> None:
        build(folder)
        together.wait(30)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: cache.install(place, waiting), range(4)))
    assert cache.intact(place)
    assert list(tmp_path.iterdir()) == [place]


def test_what_a_killed_process_left_is_removed_in_time(folder: Path):
    left = folder.parent / ".installed.killed.tmp"
    (left / "new").mkdir(parents=True)
    cache.install(folder, build)
    assert left.exists()  # it could be at work still
    yesterday = time.time() - 2 * 24 * 3600
    os.utime(left, (yesterday, yesterday))
    cache.install(folder, build)
    assert not left.exists()


def test_full_disk(folder: Path):
    def full(_folder: Path) -> None:
        raise OSError(28, "No space left on device")

    cache.install(folder, full)  # what is there is whole
    (folder / "one").unlink()
    with pytest.raises(StorageError, match="No space left on device; set JAXDIGITS_CACHE") as caught:
        cache.install(folder, full)
    one_line(caught)
    assert list(folder.parent.iterdir()) == [folder]


# Records.
