"""The data sets: what is loaded is what was published, whatever happens to the cache in between."""

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxdigits import dataset, records
from jaxdigits.errors import DataError, JaxdigitsError, UsageError

from .idx_files import damage, one_line, silent, small, write_idx
from .preparing import GUARD, PREPARE, start

PACKAGED = Path(dataset.__file__).with_name("mnist")
FASHION = Path("/usr/share/datasets/fashion-mnist")  # Debian: apt install dataset-fashion-mnist


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


def test_a_cached_start_needs_neither_tfds_nor_its_records(cache: Path):
    shutil.rmtree(cache / "mnist-records")
    code = "import sys, jaxdigits.dataset as d; d.load(); print('tensorflow_datasets' in sys.modules)"
    process = start(code, cache.parent)
    assert process.communicate(timeout=60) == ("False\n", "")
    assert not (cache / "mnist-records").exists()


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
