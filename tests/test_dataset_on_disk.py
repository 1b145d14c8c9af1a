"""A folder of the user's whose images are left on disk, by way of the cache: for several processes."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxdigits import dataset, idx
from jaxdigits.errors import DataError
from jaxdigits.rows import Rows

from .idx_files import damage, one_line, silent, small, write_idx
from .reads import counted


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's own digits, as plain files, and a cache with nothing in it."""
    monkeypatch.setenv("JAXDIGITS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "digits").mkdir()
    write_idx(tmp_path / "digits", small(40, 20))
    return tmp_path / "digits"


def on_disk(folder: Path, name: str = "mnist") -> tuple[dataset.Dataset, list[str]]:
    """The data set, and what is said meanwhile."""
    said: list[str] = []
    return dataset.load(name, folder, on_disk=True, say=said.append), said


def copies(digits: Path) -> list[Path]:
    """What the cache has."""
    return sorted((digits.parent / "cache" / "datasets").iterdir())


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "emnist/letters"])
def test_a_folder_on_disk_is_what_it_is_in_memory(digits: Path, name: str):
    images, labels, *test = small(40, 20)
    write_idx(digits, [images, np.maximum(labels, 1), test[0], np.maximum(test[1], 1)], zipped=True)
    for plain in digits.glob("*ubyte"):
        plain.unlink()
    whole = dataset.load(name, digits, say=silent)
    _, said = on_disk(digits, name)
    assert said == [f"Preparing {name} from {digits} (once) ..."]
    with counted("train.u8") as read:
        found, said = on_disk(digits, name)
        assert not said
        assert read.total == 40  # the labels
        share = np.asarray(found.train.images[10:15])
        assert read.total == 40 + 5 * 784
    np.testing.assert_array_equal(share, whole.train.images[10:15], strict=True)
    for ours, theirs in ((found.train, whole.train), (found.test, whole.test)):
        assert isinstance(ours.images, Rows)
        np.testing.assert_array_equal(np.asarray(ours.images), theirs.images, strict=True)
        np.testing.assert_array_equal(ours.labels, theirs.labels, strict=True)
    assert (found.name, found.class_names, found.recorded) == (name, whole.class_names, whole.recorded)


def test_a_folder_is_known_by_its_content(digits: Path):
    first, _ = on_disk(digits)
    again = shutil.copytree(digits, digits.with_name("elsewhere"))
    for path in again.iterdir():
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert not on_disk(again)[1]
    assert len(copies(digits)) == 1
    write_idx(digits, small(40, 20), zipped=True)
    for which, path in enumerate(sorted(digits.glob("*ubyte"))):
        path.unlink()  # the packed one has the same content
        found, said = on_disk(digits)
        assert said[0].startswith("Preparing")
        assert len(copies(digits)) == which + 2
        assert found.recorded == first.recorded
    for which in range(4):
        changed = small(40, 20)
        changed[which][-1] = 9 - changed[which][-1]
        write_idx(digits, changed, zipped=True)
        found, said = on_disk(digits)
        assert said[0].startswith("Preparing")
        assert (found.recorded != first.recorded) == (which < 2)  # the training split has changed
        whole = dataset.load(data_dir=digits, say=silent)
        assert found.recorded == whole.recorded
        np.testing.assert_array_equal(np.asarray(found.train.images), whole.train.images)
        np.testing.assert_array_equal(found.test.labels, whole.test.labels)
    assert on_disk(digits, "kmnist")[1]
    assert len(copies(digits)) == 1 + 4 + 4 + 1


@pytest.mark.parametrize("file", ["train.u8", "train.sums", "classes.json"])
def test_a_damaged_copy_of_a_folder_is_mended(digits: Path, file: str):
    first, _ = on_disk(digits)
    images = np.asarray(first.train.images)
    (copy,) = copies(digits)
    damage(copy / file)
    if file == "train.u8":  # an image in the middle, which is not read at the start
        found, said = on_disk(digits)
        assert not said
        with pytest.raises(DataError, match="start again") as caught:
            np.asarray(found.train.images)
        one_line(caught)
    found, said = on_disk(digits)
    assert said == [f"The cache of mnist in {copy.parent} is damaged or incomplete: preparing it again ..."]
    np.testing.assert_array_equal(np.asarray(found.train.images), images)
    assert not on_disk(digits)[1]
    assert copies(digits) == [copy]


def test_several_that_prepare_a_folder_at_once_all_have_it(digits: Path, monkeypatch: pytest.MonkeyPatch):
    together, read = threading.Barrier(3, timeout=60), dataset.read_folder

    def read_together(*arguments: Any) -> Any:
        together.wait()  # nobody has written yet
        return read(*arguments)

    monkeypatch.setattr(dataset, "read_folder", read_together)
    with ThreadPoolExecutor(3) as pool:
        found = [one for one, _ in pool.map(on_disk, [digits] * 3)]
    for one in found:
        np.testing.assert_array_equal(np.asarray(one.train.images)[..., 0], small(40, 20)[0])
    assert len(copies(digits)) == 1


def test_files_that_change_while_they_are_read_are_not_kept(digits: Path, monkeypatch: pytest.MonkeyPatch):
    read = dataset.read_folder

    def read_others(*arguments: Any) -> Any:
        write_idx(digits, small(40, 20, seed=1))
        return read(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(dataset, "read_folder", read_others)
        with pytest.raises(DataError, match="start again") as caught:
            on_disk(digits)
    one_line(caught)
    assert not copies(digits)
    found, _ = on_disk(digits)
    np.testing.assert_array_equal(np.asarray(found.train.images)[..., 0], small(40, 20, seed=1)[0])


def test_a_folder_that_cannot_be_read_is_refused(digits: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(idx, "sha256", fail)
    with pytest.raises(
        DataError, match=r"train-images-idx3-ubyte: expected .* found PermissionError"
    ) as caught:
        on_disk(digits)
    one_line(caught)
