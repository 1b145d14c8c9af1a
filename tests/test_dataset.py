"""The data sets: what is loaded is what was published, whatever happens to the cache in between."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdigits import cache as folders
from jaxdigits import dataset, records
from jaxdigits.errors import DataError, JaxdigitsError, StorageError, UsageError

from .idx_files import damage, one_line, silent, small, write_idx

PACKAGED = Path(dataset.__file__).with_name("mnist")
FASHION = Path("/usr/share/datasets/fashion-mnist")  # Debian: apt install dataset-fashion-mnist

# Makes a process in which TensorFlow and importlib_resources seem installed, and importing either fails.
GUARD = """
import importlib.machinery, sys
tried = []
class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "importlib_resources"):
            return importlib.machinery.ModuleSpec(name, self)
    def create_module(self, spec):
        tried.append(spec.name)
        raise ImportError(spec.name)
    def exec_module(self, module):
        raise AssertionError
sys.meta_path.insert(0, Guard())
"""
PREPARE = (
    "import jaxdigits.dataset as d; x = d.load('mnist'); print(x.train.images.shape, x.test.labels.sum())"
)


def start(code: str, cache: Path) -> subprocess.Popen:
    environment = {**os.environ, "JAXDIGITS_CACHE": str(cache)}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that a process without TensorFlow has prepared from nothing."""
    cache = tmp_path_factory.mktemp("prepared")
    check = "\nassert not tried, tried; assert not {'tensorflow', 'importlib_resources'} & set(sys.modules)"
    process = start(GUARD + PREPARE + check, cache)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out.split() == ["(60000,", "28,", "28,", "1)", "44434"]
    assert err == "Preparing mnist from the packaged files (once, about 8 s) ...\n"
    assert sorted(path.name for path in (cache / "datasets").iterdir()) == ["mnist-arrays", "mnist-records"]
    return cache


@pytest.fixture
def cache(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the prepared cache, as the one in use."""
    shutil.copytree(prepared, tmp_path / "cache", copy_function=os.link)
    monkeypatch.setenv("JAXDIGITS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "datasets"


# TFDS's examples, prepared for real.


@pytest.mark.usefixtures("cache")
def test_examples_are_the_packaged_ones():
    def hashes(split: dataset.Split) -> list[bytes]:
        rows = np.concatenate([split.images.reshape(-1, 784), split.labels[:, None]], axis=1)
        return sorted(hashlib.sha256(row).digest() for row in rows)

    ours, raw = dataset.load(say=silent), dataset.load(data_dir=PACKAGED, say=silent)
    assert ours.class_names == raw.class_names == tuple("0123456789")
    for split, original in ((ours.train, raw.train), (ours.test, raw.test)):
        assert split.images.dtype == split.labels.dtype == np.uint8
        assert split.images.shape == (len(split.labels), 28, 28, 1)
        assert not np.array_equal(split.labels, original.labels)  # TFDS's order is its own
        assert hashes(split) == hashes(original)


def test_cached_start_is_quick_and_without_tfds(cache: Path):
    code = (
        "import sys, time, jaxdigits.dataset as d; d.load(); start = time.perf_counter(); d.load(); "
        "assert 'tensorflow_datasets' not in sys.modules; print(time.perf_counter() - start)"
    )
    process = start(code, cache.parent)
    out, err = process.communicate(timeout=60)
    assert err == ""
    assert float(out) < 1.0  # 0.05 to 0.2 s; the rest is for a busy machine


@pytest.mark.usefixtures("cache")
def test_source_is_what_load_decodes():
    loaded = dataset.load(say=silent)
    source = dataset.tfds_source("mnist", "test", say=silent)
    some = [source[i] for i in (0, 1, 9999)]
    assert [example["label"] for example in some] == loaded.test.labels[[0, 1, 9999]].tolist()
    np.testing.assert_array_equal([example["image"] for example in some], loaded.test.images[[0, 1, 9999]])
    for one, other in zip(
        dataset.batches(dataset.tfds_source(split="test[:300]"), 128, seed=1),
        dataset.batches(dataset.Split(loaded.test.images[:300], loaded.test.labels[:300]), 128, seed=1),
        strict=True,
    ):
        assert one["image"].dtype == other["image"].dtype
        assert one["label"].dtype == other["label"].dtype
        np.testing.assert_array_equal(one["image"], other["image"])
        np.testing.assert_array_equal(one["label"], other["label"])
    with pytest.raises(UsageError, match="train or test") as caught:
        dataset.tfds_source("mnist", "validation")
    one_line(caught)


def test_tfds_itself_reads_the_records(cache: Path):
    import_tfds = "import warnings; warnings.simplefilter('ignore'); import tensorflow_datasets as tfds; "
    code = (
        import_tfds
        + f"s = tfds.data_source('mnist', data_dir={str(cache / 'mnist-records')!r}, download=False); "
    )
    code += "e = s['test'][7]; print(len(s['train']), e['image'].sum(), e['label'])"
    process = start(code, cache.parent)
    out, err = process.communicate(timeout=60)
    test = dataset.load(say=silent).test
    assert out.split() == ["60000", str(test.images[7].sum()), str(test.labels[7])], err


@pytest.mark.parametrize("damaged", ["mnist-train*", "dataset_info.json"])
def test_damaged_records_are_mended(
    prepared: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, damaged: str
):
    ran = []

    def copy(_name: str, folder: Path) -> None:
        ran.append("records")
        records_folder = prepared / "datasets" / "mnist-records"
        shutil.copytree(records_folder / "mnist", folder / "mnist", copy_function=os.link)

    monkeypatch.setattr(records, "prepare", copy)
    (path,) = (cache / "mnist-records").rglob(damaged)
    damage(path)
    dataset.load(say=silent)  # which does not read them
    said: list[str] = []
    assert len(dataset.tfds_source(say=said.append)) == 60000
    assert len(said) == len(ran) == 1
    dataset.tfds_source(say=silent)


# The cache, with almost nothing in it.


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


# Names.


@pytest.mark.skipif(not FASHION.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_fashion_mnist():
    fashion = dataset.load("fashion_mnist", FASHION, say=silent)
    assert fashion.class_names[0] == "T-shirt/top"
    assert np.bincount(fashion.train.labels).tolist() == [6000] * 10
    assert np.bincount(fashion.test.labels).tolist() == [1000] * 10


@pytest.mark.parametrize(
    ("name", "error", "expected"),
    [
        ("mnits", UsageError, "did you mean 'mnist'"),
        ("emnist", UsageError, "did you mean 'emnist/"),
        ("emnist/leters", UsageError, "did you mean 'emnist/letters'"),
        ("mnist/x", UsageError, "did you mean 'mnist'"),
        ("MNIST", UsageError, "did you mean 'mnist'"),
        ("mnist\n", UsageError, "did you mean 'mnist'"),
        ("", UsageError, "NAMES"),
        ("../../etc", UsageError, "NAMES"),
        ("mnist:1.0.0", UsageError, "did you mean 'mnist'"),
        ("cifar10", UsageError, "28x28x1"),
        ("coco/2017", UsageError, "28x28x1"),
        ("coco", UsageError, "28x28x1"),
        ("huggingface:mnist", UsageError, "did you mean"),
        ("mnist_corrupted/identity", DataError, "only with TensorFlow"),
    ],
)
def test_names(name: str, error: type[JaxdigitsError], expected: str):
    for call in (dataset.load, dataset.tfds_source):
        with pytest.raises(error) as caught:
            call(name, say=silent)
        assert expected in one_line(caught)


def test_tensorflow_is_not_imported_to_look_at_a_name(tmp_path: Path):
    code = """
import jaxdigits.dataset as d
try:
    d.load("coco/2017")
except d.UsageError:
    print(tried, sys.modules.get("tensorflow"), d.names.class_names("kmnist")[:2])
"""
    out, err = start(GUARD + code, tmp_path).communicate(timeout=60)
    assert out == "[] None ('o', 'ki')\n", err


def test_any_set_of_this_form_from_a_folder(tmp_path: Path):
    write_idx(tmp_path, small(classes=2))
    assert len(dataset.load("pneumonia_mnist", tmp_path, say=silent).class_names) == 2


# Batches.


@given(
    n=st.integers(1, 30),
    size=st.integers(1, 40),
    epochs=st.integers(0, 3),
    seed=st.none() | st.integers(0, 9),
    drop=st.booleans(),
)
def test_batches_hold_every_example_once_an_epoch(
    n: int, size: int, epochs: int, seed: int | None, drop: bool
):
    split = dataset.Split(np.arange(n, dtype=np.uint8)[:, None, None, None], np.arange(n, dtype=np.uint8))

    def labels() -> list[np.ndarray]:
        found = list(dataset.batches(split, size, epochs=epochs, seed=seed, drop_remainder=drop))
        assert all((batch["image"][:, 0, 0, 0] == batch["label"]).all() for batch in found)
        return [batch["label"] for batch in found]

    found = labels()
    an_epoch = n // size if drop else -(-n // size)
    assert len(found) == an_epoch * epochs
    assert all(map(np.array_equal, found, labels()))
    for epoch in range(epochs):
        seen = np.concatenate([np.empty(0, np.uint8), *found[epoch * an_epoch : (epoch + 1) * an_epoch]])
        assert len(set(seen.tolist())) == len(seen) == (n - n % size if drop else n)
        if seed is None:
            np.testing.assert_array_equal(seen, np.arange(len(seen)))


def test_epochs_are_shuffled_anew():
    split = dataset.Split(np.zeros((50, 28, 28, 1), np.uint8), np.arange(50, dtype=np.uint8))
    first, second = dataset.batches(split, 50, epochs=2, seed=0)
    assert not np.array_equal(first["label"], second["label"])
    (other,) = dataset.batches(split, 50, seed=1)
    assert not np.array_equal(first["label"], other["label"])


@pytest.mark.parametrize(("size", "epochs"), [(0, 1), (-1, 1), (8, -1)])
def test_batches_refuse_nonsense(size: int, epochs: int):
    with pytest.raises(UsageError, match="batch_size"):
        dataset.batches(
            dataset.Split(np.zeros((1, 28, 28, 1), np.uint8), np.zeros(1, np.uint8)), size, epochs=epochs
        )
