"""The cache of data sets, with almost nothing in it: damaged, in the way, forgotten, and after a kill."""

import hashlib
import json
import time
from pathlib import Path

import numpy as np
import pytest

from jaxdigits import cache as folders
from jaxdigits import dataset, records
from jaxdigits.errors import DataError, StorageError, UsageError

from .idx_files import damage, one_line, silent
from .preparing import PREPARE, start


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lets the two slow steps write almost nothing; lists which ran. The cache is `tmp_path`."""
    ran: list[str] = []

    def prepare(_name: str, folder: Path) -> None:
        ran.append("records")
        (folder / "record").write_bytes(b"record")

    def write(_name: str, _examples: object, folder: Path) -> None:
        ran.append("arrays")
        for split, n in (("train", 3), ("test", 2)):
            (folder / f"{split}.u8").write_bytes(bytes(784 * n) + bytes([1] * n))
        (folder / "classes.json").write_text(json.dumps(list("0123456789")))

    monkeypatch.setattr(records, "prepare", prepare)
    monkeypatch.setattr(dataset, "_write_arrays", write)
    monkeypatch.setenv("JAXDIGITS_CACHE", str(tmp_path))
    return ran


def test_only_the_first_load_prepares(tiny: list[str]):
    said: list[str] = []
    first, second = dataset.load(say=said.append), dataset.load(say=silent)
    assert said == ["Preparing mnist from the packaged files (once, about 8 s) ..."]
    assert tiny == ["records", "arrays"]
    assert first.class_names == second.class_names == tuple("0123456789")
    for one, other in zip((*first.train, *first.test), (*second.train, *second.test), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [len(split.images) for split in (first.train, first.test)] == [3, 2]


def test_what_was_read_ahead_is_loaded_once_and_then_read_again(
    tiny: list[str], monkeypatch: pytest.MonkeyPatch
):
    expected = dataset.load(say=lambda _: None)
    reads, read = [], dataset._read_arrays
    monkeypatch.setattr(dataset, "_read_arrays", lambda *a, **how: reads.append(a) or read(*a, **how))
    with dataset.ahead("mnist"):
        first, second = dataset.load(say=silent), dataset.load(say=silent)
    assert len(reads) == 2
    assert not dataset._under_way
    for found in (first, second):
        np.testing.assert_array_equal(found.train.images, expected.train.images)
    assert tiny == ["records", "arrays"]


def test_what_cannot_be_read_ahead_is_prepared_or_refused_as_ever(tmp_path: Path, tiny: list[str]):
    with dataset.ahead("mnist"):
        assert len(dataset.load(say=lambda _: None).train.labels) == 3
    damage(tmp_path / "datasets" / "mnist-arrays" / "train.u8")
    with dataset.ahead("mnist"):
        assert len(dataset.load(say=lambda _: None).train.labels) == 3
    assert tiny == ["records", "arrays", "arrays"]
    with dataset.ahead("no_such_set"), pytest.raises(UsageError):
        dataset.load("no_such_set", say=silent)


@pytest.mark.usefixtures("tiny")
def test_images_lie_where_xla_takes_them_without_a_copy():
    dataset.load(say=lambda _: None)
    loaded = dataset.load(say=silent)
    assert {split.images.ctypes.data % 64 for split in (loaded.train, loaded.test)} == {0}


@pytest.mark.parametrize("how", ["gone", "flipped"])
@pytest.mark.parametrize("file", ["train.u8", "test.u8", "classes.json", "sha256.json"])
def test_damaged_arrays_are_mended(tmp_path: Path, tiny: list[str], file: str, how: str):
    dataset.load(say=lambda _: None)
    path = tmp_path / "datasets" / "mnist-arrays" / file
    path.unlink() if how == "gone" else damage(path)
    said: list[str] = []
    dataset.load(say=said.append)
    assert len(said) == 1
    assert "\n" not in said[0]
    assert "damaged" in said[0]
    assert tiny == ["records", "arrays", "arrays"]
    dataset.load(say=silent)


@pytest.mark.usefixtures("tiny")
def test_a_class_name_that_would_steer_a_terminal_is_refused(tmp_path: Path):
    dataset.load(say=lambda _: None)
    path = tmp_path / "datasets" / "mnist-arrays" / "classes.json"
    path.write_text(json.dumps(["\x1b[2J", *"123456789"]))
    sums = path.with_name("sha256.json")
    listed = json.loads(sums.read_bytes())
    listed[path.name] = [path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()]
    sums.write_text(json.dumps(listed))
    assert folders.intact(path.parent)
    with pytest.raises(StorageError, match="JAXDIGITS_CACHE") as caught:  # its sums are right: no accident
        dataset.load(say=lambda _: None)
    one_line(caught)


def test_a_folder_of_nobody_is_not_there():
    with pytest.raises(DataError, match="nosuchuser") as caught:
        dataset.load(data_dir="~nosuchuser/mnist", say=silent)
    one_line(caught)


def test_cache_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JAXDIGITS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(StorageError, match="JAXDIGITS_CACHE") as caught:
        dataset.load(say=silent)
    one_line(caught)


@pytest.mark.usefixtures("tiny")
def test_cache_that_forgets(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(folders, "install", lambda _folder, _build: None)
    with pytest.raises(StorageError, match=r"does not keep .* JAXDIGITS_CACHE") as caught:
        dataset.load(say=lambda _: None)
    one_line(caught)


def test_killed_while_preparing(tmp_path: Path, tiny: list[str]):
    process = start(PREPARE, tmp_path)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("datasets/.*.tmp/new/mnist")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.communicate()
    (left,) = tmp_path.glob("datasets/.*.tmp")
    assert len(dataset.load(say=lambda _: None).test.labels) == 2
    assert left.exists()  # it could be at work still
    assert tiny == ["records", "arrays"]
