"""TFDS's records of a data set, written and read without TensorFlow.

TensorFlow Datasets (TFDS) does the work: it checks the original files against the checksums that it
knows, and fixes the order and the form of the records. Replaced is only what would import TensorFlow.
MNIST's four files come with this package; TFDS downloads the others. Where the records lie is left to
`cache`, and what the user is told to `dataset`.
"""

import contextlib
import errno
import importlib.machinery
import logging
import os
import shutil
import sys
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxdigits.errors import DataError
from jaxdigits.idx import SIDE, file_names, read_pair

__all__ = ["classes", "examples", "open_split", "prepare"]

_PACKAGED = Path(__file__).with_name("mnist")  # the four original files
_FORMAT = "parquet" if sys.platform == "win32" else "array_record"  # which has no build for Windows
_TIMEOUT = 10  # seconds for a server's first answer
_AT_ONCE = 1000  # examples that are read together
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)  # not the fault of the data


@contextlib.contextmanager
def _quiet_tfds() -> Iterator[Any]:
    """Imports TFDS, and keeps its notices and progress bars from the terminal for the while."""
    with (
        open(os.devnull, "w") as nowhere,  # noqa: PTH123 (os.devnull is a name, not a path to build on)
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        import tensorflow_datasets as tfds

        logger = logging.getLogger("absl")
        level = logger.level
        logger.setLevel(logging.CRITICAL)
        try:
            yield tfds
        finally:
            logger.setLevel(level)


class _NoTensorFlow:
    """An import hook that refuses TensorFlow, also where it is installed: some sets' descriptions try it.

    It refuses late, in the import itself: TFDS also asks whether TensorFlow could be found, or is loaded.
    """

    def __enter__(self) -> None:
        sys.meta_path.insert(0, self)

    def __exit__(self, *_: object) -> None:
        sys.meta_path.remove(self)

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        loader: Any = self
        return importlib.machinery.ModuleSpec(name, loader) if name == "tensorflow" else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        raise ImportError(f"{spec.name} is not used here")

    def exec_module(self, module: object) -> None:
        """Never reached; a loader must have it."""


def classes(name: str) -> tuple[str, ...] | None:
    """The names of the classes of a TFDS set of 28x28x1 images; None where it is of another kind.

    Raises:
      LookupError: TFDS has no such data set.
    """
    shape, names = None, ()
    other_kind = contextlib.suppress(AttributeError, ImportError, KeyError, TypeError)
    with _quiet_tfds(), _NoTensorFlow(), tempfile.TemporaryDirectory() as nowhere, other_kind:
        features = _builder(name, Path(nowhere)).info.features
        shape, names = features["image"].shape, features["label"].names
    return tuple(names) if shape == (SIDE, SIDE, 1) and 0 < len(names) <= 256 else None


def open_split(name: str, split: str, folder: Path) -> Any:
    """TFDS's own data source over a split, or a slice of it, that `prepare` has written.

    Raises:
      ValueError: there is no such split.
    """
    with _quiet_tfds() as tfds:
        decoders = {"image": tfds.decode.make_decoder()(lambda png, _feature: _decode_png(png))()}
        return tfds.data_source(name, split=split, data_dir=folder, download=False, decoders=decoders)


def examples(name: str, split: str, folder: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All that `open_split` holds, in its order, without TFDS looking up for each example what is in it.

    That takes a third of the time.

    Yields:
      Images, uint8 [n, 28, 28, 1], and labels, uint8 [n], of some examples at a time.
    """
    with _quiet_tfds() as tfds:
        from tensorflow_datasets.proto import tf_example_pb2

        form = tfds.decode.DeserializeMethod.RAW_BYTES
        source = tfds.data_source(name, split=split, data_dir=folder, download=False, deserialize_method=form)
        parse: Callable[[bytes], Any] = tf_example_pb2.Example.FromString  # pyright: ignore  # made at run time
    for start in range(0, len(source), _AT_ONCE):
        found = source.__getitems__(range(start, min(start + _AT_ONCE, len(source))))
        features = [parse(record).features.feature for record in found]
        images = np.stack([_decode_png(each["image"].bytes_list.value[0]) for each in features])
        yield images, np.array([each["label"].int64_list.value[0] for each in features], np.uint8)


def prepare(name: str, folder: Path) -> None:
    """Lets TFDS write its records of `name` into `folder`, from the packaged files or its download.

    Raises:
      DataError: the files cannot be had, or TFDS finds that they are not the ones it knows.
      OSError: the disk is full or not writable.
    """
    scratch = folder / "scratch"
    try:
        with _quiet_tfds() as tfds:
            builder = _builder(name, folder)
            if name != "mnist":
                _ask_server(name, builder.URL)
            builder.download_and_prepare(
                download_dir=scratch,
                file_format=_FORMAT,
                download_config=tfds.download.DownloadConfig(
                    manual_dir=_PACKAGED if name == "mnist" else None,
                    try_download_gcs=False,
                    force_checksums_validation=True,
                ),
            )
        for split, info in builder.info.splits.items():
            if (found := len(open_split(name, split, folder))) != info.num_examples:
                raise ValueError(f"TFDS wrote {found} of the {info.num_examples} examples of {split}")
    except Exception as error:  # of whatever TFDS is built on
        if isinstance(error, OSError) and error.errno in _DISK:
            raise
        raise DataError(_advice(name, error)) from error
    shutil.rmtree(scratch, ignore_errors=True)


def _ask_server(name: str, url: str) -> None:
    """Fails soon where the server does not answer: TFDS itself would try for minutes."""
    import urllib.request

    first = url if name.startswith("emnist/") else f"{url}{file_names('mnist')[0]}.gz"
    urllib.request.urlopen(first, timeout=_TIMEOUT).close()  # noqa: S310 (TFDS's own http URL)


def _advice(name: str, error: Exception) -> str:
    """What to do where TFDS could not have the files of `name`: one line."""
    cause = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    if name == "mnist":
        return f"the MNIST files in {_PACKAGED} are missing or damaged; reinstall jaxdigits ({cause})"
    files = ", ".join(f"{file}.gz" for file in file_names(name))
    return (
        f"cannot download {name}: put {files} in a folder and give that with --data-dir (data_dir=) ({cause})"
    )


# The steps of TFDS that would import TensorFlow.


def _builder(name: str, folder: Path) -> Any:
    """TFDS's builder of `name`, with those steps replaced.

    Raises:
      LookupError: TFDS has no such data set.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered, writer

    base_name, _, config = name.partition("/")
    if base_name not in tfds.list_builders(with_community_datasets=False):
        raise LookupError(name)
    base: Any = tfds.builder_cls(base_name)
    if config and config not in base.builder_configs:
        raise LookupError(name)

    class WholeListWriter(writer.ExampleWriter):
        """TFDS's Parquet writer skips examples of an iterator (it restarts `islice`), but not of a list."""

        def write(self, path: Any, examples: Any) -> Any:
            return super().write(path, list(examples) if _FORMAT == "parquet" else examples)

    with registered.skip_registration():

        class Builder(base):
            # `name` keeps TFDS's own path and shuffling; `url_infos` spares the search for a checksum
            # file beside this class, which needs a package that TFDS does not declare.
            name = base_name
            url_infos: Any = {}  # noqa: RUF012 (TFDS wants a class attribute)

            def _split_generators(self, dl_manager: Any) -> Any:
                files = _fetch(name, self.URL, dl_manager.download, folder / "scratch")
                return {
                    "train": self._generate_examples(*files[:2]),
                    "test": self._generate_examples(*files[2:]),
                }

            def _generate_examples(self, images_path: Path, labels_path: Path) -> Any:
                images, labels = read_pair(images_path, labels_path)
                examples = zip(_encode_pngs(images), labels, strict=True)
                yield from enumerate({"image": png, "label": int(label)} for png, label in examples)

            def _example_writer(self) -> Any:
                return WholeListWriter(self.info.file_format)

    return Builder(data_dir=folder, config=config or None)


def _fetch(name: str, url: str, download: Callable[[Any], Any], scratch: Path) -> list[Path]:
    """Downloads the four files, or finds them in TFDS's manual folder."""
    if name.startswith("emnist/"):
        with zipfile.ZipFile(download(url)) as archive:
            return [Path(archive.extract(f"gzip/{file}.gz", scratch)) for file in file_names(name)]
    return [Path(path) for path in download([f"{url}{file}.gz" for file in file_names("mnist")])]


def _encode_pngs(images: np.ndarray) -> Iterator[bytes]:
    """Each of uint8 [n, 28, 28] as a PNG without compression: TFDS packs its records anyhow."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    side = SIDE.to_bytes(4, "big")
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", side + side + b"\x08\0\0\0\0")  # 8-bit grey
    end = chunk(b"IEND", b"")
    scanlines = np.pad(images, ((0, 0), (0, 0), (1, 0)))  # [n, 28, 29]: filter 0 before each row
    for image in scanlines:
        yield start + chunk(b"IDAT", zlib.compress(image.tobytes(), 0)) + end


def _decode_png(png: bytes) -> np.ndarray:
    """The uint8 [28, 28, 1] in a PNG of `_encode_pngs`: a third of the time that a general reader takes."""
    packed, size = bytes(png)[41:-16], SIDE * (SIDE + 1)  # between the header and the closing chunk
    scanlines = zlib.decompressobj().decompress(packed, size)
    return np.frombuffer(scanlines, np.uint8).reshape(SIDE, SIDE + 1, 1)[:, 1:]
