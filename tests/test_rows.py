"""Rows on disk are the array that they stand for, and of their file no more is read than is asked for."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdigits.errors import DataError
from jaxdigits.rows import Rows, row_sums

from .idx_files import one_line
from .reads import counted

N, SHAPE, START = 60, (5, 2, 1), 7  # rows, the form of each, and bytes before the first
ARRAY = np.random.default_rng(0).integers(0, 256, (N, *SHAPE), np.uint8)
SIZE = START + ARRAY.size + 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("rows"))


def written(folder: Path) -> Path:
    (folder / "file").write_bytes(bytes(START) + ARRAY.tobytes() + bytes(3))
    return folder


def rows(folder: Path, file: str = "file", size: int = SIZE) -> Rows:
    return Rows(folder, file, size, ARRAY.shape, row_sums(ARRAY), START)


bounds = st.none() | st.integers(-N - 5, N + 5)
slices = st.builds(slice, bounds, bounds, st.integers(-7, 7).filter(bool) | st.none())


@st.composite
def indices(draw: st.DrawFn, n: int) -> slice | np.ndarray:
    """A slice, or an array of indices or of booleans, for an array of `n`."""
    some = st.lists(st.integers(-n, n - 1), max_size=40) if n else st.just([])
    arrays = st.builds(lambda values: np.array(values, int), some)
    masks = st.lists(st.booleans(), min_size=n, max_size=n).map(lambda values: np.array(values, bool))
    return draw(slices | arrays | masks)


@given(data=st.data())
def test_any_choice_is_that_of_the_array_and_no_other_row_is_read(folder: Path, data: st.DataObject):
    found, expected, which = rows(folder), ARRAY, np.arange(N)
    with counted("file") as read:
        for _ in range(data.draw(st.integers(0, 3))):
            index = data.draw(indices(len(expected)))
            found, expected, which = found[index], expected[index], which[index]
            assert (found.shape, found.dtype, found.ndim) == (expected.shape, expected.dtype, expected.ndim)
            assert len(found) == len(expected)
        assert read.total == 0
        np.testing.assert_array_equal(np.asarray(found), expected, strict=True)
        assert read.total == len(np.unique(which)) * ARRAY[0].size


def test_what_is_no_choice_of_rows(folder: Path):
    for index in (3, (slice(3), 0), np.zeros((2, 2), int)):
        with pytest.raises((TypeError, IndexError)):
            rows(folder)[index]
    with pytest.raises(TypeError):
        list(rows(folder))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="copy"):
        np.array(rows(folder), copy=False)
    assert np.asarray(rows(folder), np.float32).dtype == np.float32


@pytest.mark.parametrize("row", [0, 31, N - 1])
def test_damage_is_found_where_it_is_read_and_the_file_is_removed(tmp_path: Path, row: int):
    path = written(tmp_path) / "file"
    content = bytearray(path.read_bytes())
    content[START + row * ARRAY[0].size + 4] ^= 1
    path.write_bytes(content)
    others = np.delete(np.arange(N), row)
    np.testing.assert_array_equal(np.asarray(rows(tmp_path)[others]), ARRAY[others])
    found = rows(tmp_path)
    with pytest.raises(DataError, match="start again") as caught:
        np.asarray(found[row : row + 1])
    assert str(path) in one_line(caught)
    assert not path.exists()
    with pytest.raises(DataError, match="FileNotFoundError") as caught:
        np.asarray(found)
    one_line(caught)


@pytest.mark.parametrize("change", [-SIZE, -4, -1, 1])
def test_a_file_of_another_size(tmp_path: Path, change: int):
    found, path = rows(written(tmp_path)), tmp_path / "file"
    os.truncate(path, SIZE + change)
    with pytest.raises(ValueError, match="file"):
        rows(tmp_path)
    with counted("file") as read, pytest.raises(DataError, match="start again"):
        np.asarray(found)
    assert read.total == 0


def test_what_does_not_fit_is_refused_before_anything_is_read(tmp_path: Path):
    written(tmp_path)
    (tmp_path / "within").mkdir()
    (tmp_path / "within" / "link").symlink_to(tmp_path / "file")
    sums = row_sums(ARRAY)
    with counted("file") as read:
        for shape, theirs in (
            ((10**15, 784), sums),
            ((N + 1, 10), sums),
            ((N, 10), sums[:-1]),
            ((N, 11), sums),
        ):
            with pytest.raises(ValueError, match="file"):
                Rows(tmp_path, "file", SIZE, shape, theirs, START)
        for folder, file in (
            (tmp_path / "within", "link"),
            (tmp_path / "within", "../file"),
            (tmp_path, "within"),
        ):
            with pytest.raises(ValueError, match=file):
                rows(folder, file)
        with pytest.raises(OSError, match="nothing"):
            rows(tmp_path, "nothing")
    assert read.total == 0
