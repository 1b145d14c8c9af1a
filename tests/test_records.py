"""TFDS's records without TensorFlow and without a network."""

import contextlib
import gzip
import http.server
import shutil
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from jaxdigits import dataset, records
from jaxdigits.errors import DataError
from jaxdigits.idx import file_names
from jaxdigits.names import class_names

from .idx_files import STEMS, one_line, silent, small, write_idx


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_pngs_are_what_a_general_reader_sees(tmp_path: Path):
    images = small(20)[0]
    for image, png in zip(images, records._encode_pngs(images), strict=True):
        (tmp_path / "image.png").write_bytes(png)
        with PIL.Image.open(tmp_path / "image.png") as read:
            assert read.mode == "L"
            np.testing.assert_array_equal(np.asarray(read), image)
        np.testing.assert_array_equal(records._decode_png(png)[..., 0], image)


def test_damaged_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    packaged = tmp_path / "mnist"
    shutil.copytree(records._PACKAGED, packaged)
    labels = packaged / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(gzip.decompress(labels.read_bytes())))  # other bytes, same content
    monkeypatch.setattr(records, "_PACKAGED", packaged)
    with pytest.raises(DataError, match=r"reinstall jaxdigits .*hecksum") as caught:
        records.prepare("mnist", tmp_path / "records")
    one_line(caught)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, format, *args):  # noqa: A002
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("fashion_mnist", "array_record"),
        ("kmnist", "parquet"),  # what Windows takes
        ("emnist/letters", "array_record"),
    ],
)
def test_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, form: str):
    monkeypatch.setattr(records, "_FORMAT", form)
    with records._quiet_tfds() as tfds:
        from tensorflow_datasets.core.download import checksums
    arrays = small(730, 220)  # more than one row group of Parquet
    arrays[1], arrays[3] = arrays[1] + 1, arrays[3] + 1
    if not name.startswith("emnist"):
        arrays[1], arrays[3] = arrays[1] % 10, arrays[3] % 10
    files = tmp_path / "files"
    files.mkdir()
    write_idx(files, arrays, zipped=True)
    if name.startswith("emnist"):
        with zipfile.ZipFile(files / "gzip.zip", "w") as archive:
            for ours, theirs in zip(STEMS, file_names(name), strict=True):
                archive.write(files / f"{ours}.gz", f"gzip/{theirs}.gz")
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("JAXDIGITS_CACHE", str(tmp_path / "cache"))
    said: list[str] = []
    with served(files) as url:
        base = tfds.builder_cls(name.partition("/")[0])
        monkeypatch.setattr(base, "URL", f"{url}gzip.zip" if name.startswith("emnist") else url)
        with pytest.raises(DataError, match=r"--data-dir .*(hecksum)"):  # TFDS does not know these files
            dataset.load(name, say=said.append)
        infos = {f"{url}{path.name}": checksums.compute_url_info(path) for path in files.iterdir()}
        monkeypatch.setattr(checksums, "get_all_url_infos", lambda: dict(infos))
        loaded = dataset.load(name, say=said.append)
    direct = dataset.load(name, files, say=silent)
    again = dataset.load(name, say=silent)
    flip(tmp_path / "cache" / "datasets" / f"{name.replace('/', '-')}-arrays" / "test.u8")
    mended = dataset.load(name, say=said.append)  # from the records, without the server
    assert [line.split()[0] for line in said] == ["Preparing", "Preparing", "The"]
    for one, other in zip((*loaded.train, *loaded.test), (*mended.train, *mended.test), strict=True):
        np.testing.assert_array_equal(one, other)
    assert loaded.class_names == direct.class_names == again.class_names
    for one, other, cached in zip(
        (loaded.train, loaded.test), (direct.train, direct.test), (again.train, again.test), strict=True
    ):
        pairs = [
            sorted((i.tobytes(), int(k)) for i, k in zip(*split, strict=True))
            for split in (one, other, cached)
        ]
        assert pairs[0] == pairs[1] == pairs[2]


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with records._quiet_tfds() as tfds:
        pass
    monkeypatch.setenv("NO_PROXY", "*")
    for name, file in (
        ("fashion_mnist", f"{STEMS[0]}.gz"),
        ("emnist/digits", "emnist-digits-test-labels-idx1-ubyte.gz"),
    ):
        monkeypatch.setattr(tfds.builder_cls(name.partition("/")[0]), "URL", "http://127.0.0.1:9/")
        with pytest.raises(DataError, match=file) as caught:
            records.prepare(name, tmp_path / "records")
        assert "--data-dir" in one_line(caught)


@pytest.mark.parametrize(
    ("name", "classes"), [("balanced", 47), ("bymerge", 47), ("byclass", 62), ("digits", 10)]
)
def test_emnist_has_as_many_names_as_tfds_classes(name: str, classes: int):
    names = class_names(f"emnist/{name}")
    assert len(set(names)) == len(names) == classes
    with records._quiet_tfds():
        info = records._builder(f"emnist/{name}", Path("nowhere")).info
    assert info.features["label"].num_classes == classes
