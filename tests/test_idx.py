"""IDX files: what is read is what was written, and whatever else the files hold is refused."""

import gzip
import struct
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdigits import dataset
from jaxdigits.errors import DataError

from .idx_files import STEMS, one_line, silent, small, write_idx


@settings(max_examples=20, deadline=None)
@given(
    train=st.integers(1, 40),
    test=st.integers(1, 9),
    seed=st.integers(0, 99),
    zipped=st.booleans(),
    dotted=st.booleans(),
)
def test_folder_round_trip(train: int, test: int, seed: int, zipped: bool, dotted: bool):
    arrays = small(train, test, seed)
    with tempfile.TemporaryDirectory() as folder:
        write_idx(Path(folder), arrays, zipped=zipped, dotted=dotted)
        loaded = dataset.load("mnist", folder, say=silent)
    for found, given_ in zip((*loaded.train, *loaded.test), arrays, strict=True):
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found.reshape(given_.shape), given_)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), zipped=st.booleans(), which=st.sampled_from(STEMS))
def test_mutated_file_is_refused_or_read(data: st.DataObject, zipped: bool, which: str):
    with tempfile.TemporaryDirectory() as folder:
        write_idx(Path(folder), small(), zipped=zipped)
        (path,) = Path(folder).glob(f"{which}*")
        content = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, min(len(content) - 1, data.draw(st.sampled_from([20, 10000])))))
        match data.draw(st.sampled_from(["cut", "set", "insert", "append", "other"])):
            case "cut":
                del content[at:]
            case "set":
                content[at] = data.draw(st.integers(0, 255))
            case "insert":
                content[at:at] = data.draw(st.binary(min_size=1, max_size=8))
            case "append":
                content += data.draw(st.binary(min_size=1, max_size=8))
            case _:
                content[:] = data.draw(st.binary(max_size=64))
        path.write_bytes(content)
        try:
            loaded, message = dataset.load("mnist", folder, say=silent), ""
        except DataError as error:
            loaded, message = None, str(error)
        if loaded is None:
            assert "\n" not in message
            assert "expected" in message
            assert "found" in message
        else:
            assert loaded.train.images.shape == (5, 28, 28, 1)
            assert max(loaded.train.labels.max(), loaded.test.labels.max()) < 10


def memory_of(action: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("claimed", [6, 4000, 2**32 - 1])
def test_false_header_costs_no_memory(tmp_path: Path, zipped: bool, claimed: int, on_disk: bool):
    write_idx(tmp_path, small(), zipped=zipped)
    for stem, tail in zip(STEMS[:2], (struct.pack(">2I", 28, 28), b""), strict=True):
        content = struct.pack(">4BI", 0, 0, 8, 1 + len(tail) // 4, claimed) + tail + bytes(500)
        (tmp_path / f"{stem}{'.gz' * zipped}").write_bytes(gzip.compress(content) if zipped else content)

    def read() -> None:
        with pytest.raises(DataError, match=r"train-(images|labels)") as caught:
            dataset.load(data_dir=tmp_path, on_disk=on_disk, say=lambda _: None)
        one_line(caught)

    assert memory_of(read) < 5e6


def test_gzip_bomb_costs_no_memory(tmp_path: Path):
    write_idx(tmp_path, small(), zipped=True)
    bomb = struct.pack(">4B3I", 0, 0, 8, 3, 5, 28, 28) + bytes(200_000_000)
    (tmp_path / f"{STEMS[0]}.gz").write_bytes(gzip.compress(bomb, 1))

    def read() -> None:
        with pytest.raises(DataError, match="expected 3920 bytes after its header, found more"):
            dataset.load(data_dir=tmp_path, say=silent)

    assert memory_of(read) < 5e6


def test_gzip_that_promises_more_than_it_may_is_not_read(tmp_path: Path):
    n, noise = 2_800_000, np.random.default_rng(0).bytes(2_300_000)  # long enough to hold what is promised
    write_idx(tmp_path, small(), zipped=True)
    header = struct.pack(">4B3I", 0, 0, 8, 3, n, 28, 28)
    (tmp_path / f"{STEMS[0]}.gz").write_bytes(gzip.compress(header + noise, 0))

    def read() -> None:
        with pytest.raises(DataError, match=f"at most {2**31} bytes, found a header that promises") as caught:
            dataset.load(data_dir=tmp_path, say=silent)
        one_line(caught)

    assert memory_of(read) < 5e6


@pytest.mark.parametrize("on_disk", [False, True])
def test_files_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_disk: bool):
    monkeypatch.setenv("JAXDIGITS_CACHE", str(tmp_path / "cache"))

    def refused(*expected: str) -> None:
        with pytest.raises(DataError) as caught:
            dataset.load(data_dir=tmp_path, on_disk=on_disk, say=lambda _: None)
        for part in expected:
            assert part in one_line(caught)

    refused(str(tmp_path), "train-images-idx3-ubyte.gz", "found neither")
    arrays = small()
    write_idx(tmp_path, [*arrays[:3], arrays[3][:2]])
    refused(STEMS[3], "3 labels", "found 2")
    write_idx(tmp_path, [*arrays[:3], np.array([0, 10, 1], np.uint8)])
    refused(STEMS[3], "10 classes", "10")
    write_idx(tmp_path, [*arrays[:2], np.zeros((3, 32, 32), np.uint8), arrays[3]])
    refused(STEMS[2], "00000803", "28x28")
    write_idx(tmp_path, [arrays[1], *arrays[1:]])
    refused(STEMS[0], "00000803", "00000801")
    write_idx(tmp_path, [arrays[0][:0], arrays[1][:0], *arrays[2:]])
    refused(STEMS[0], "n at least 1")
    with pytest.raises(DataError):
        dataset.load(data_dir=tmp_path / "nowhere", on_disk=on_disk)
    assert not list(tmp_path.glob("cache/datasets/*"))


def test_emnist_comes_upright_and_named(tmp_path: Path):
    arrays = small(26, 26)
    arrays[1] = arrays[3] = np.arange(1, 27, dtype=np.uint8)
    write_idx(tmp_path, arrays, zipped=True)
    for stem in STEMS:
        part, _, rest = stem.partition("-")
        name = f"emnist-letters-{part.replace('t10k', 'test')}-{rest}.gz"
        (tmp_path / f"{stem}.gz").rename(tmp_path / name)
    letters = dataset.load("emnist/letters", tmp_path, say=silent)
    np.testing.assert_array_equal(letters.train.images[..., 0], arrays[0].swapaxes(1, 2))
    assert (
        "".join(letters.class_names[label] for label in letters.test.labels) == "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    )
    arrays[1] = arrays[1] - 1  # a label 0, which EMNIST's letters do not have
    (tmp_path / "x").mkdir()
    write_idx(tmp_path / "x", arrays)
    with pytest.raises(DataError, match="26 classes"):
        dataset.load("emnist/letters", tmp_path / "x")
