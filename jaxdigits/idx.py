"""Reads IDX, the form of MNIST's own files: a magic number, the dimensions, the bytes.

A data set is four such files, plain or gzipped. A file that cannot be right is refused, with its path,
what was expected and what was found, before any memory is spent on what it claims to hold. Which data
sets there are, and what their labels mean, is left to `dataset`.
"""

import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from jaxdigits.errors import DataError
from jaxdigits.storage import sha256

__all__ = ["SIDE", "conventional", "file_names", "folder_sum", "read_folder", "read_pair"]

SIDE = 28
"""Pixels, of every image."""

_LARGEST = (
    2**31
)  # bytes that a file may promise, three times EMNIST's largest: a small gzip can hold terabytes


def file_names(name: str) -> list[str]:
    """What the publishers of a TFDS data set call its four files, without `.gz`.

    Returns:
      The training images and labels, then the test images and labels.
    """
    prefix = f"{name.replace('/', '-')}-" if name.startswith("emnist/") else ""
    parts = (f"{prefix}train", f"{prefix}test" if prefix else "t10k")
    return [f"{part}-{kind}-ubyte" for part in parts for kind in ("images-idx3", "labels-idx1")]


def read_folder(name: str, folder: Path, classes: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Reads the four files of a data set, under MNIST's names or its own.

    Args:
      name: a TFDS name.
      folder: where the files are.
      classes: how many classes the set has.

    Returns:
      For the training and for the test set: uint8 images [n, 28, 28, 1] and labels [n], as `conventional`
      gives them, in the files' order.

    Raises:
      DataError: a file is missing, damaged or of the wrong form.
    """
    paths = _find_all(name, folder)
    pairs = []
    for images_path, labels_path in (paths[:2], paths[2:]):
        images, labels = read_pair(images_path, labels_path)
        images, labels = conventional(name, images[..., None], labels)
        if (largest := int(labels.max())) >= classes:  # 0 - 1 is 255 here: found as well
            raise DataError(
                f"{labels_path}: expected labels of the {classes} classes of {name}, found one outside "
                f"({largest}, counted from 0); correct the labels, or choose another data set name"
            )
        pairs.append((images, labels))
    return pairs


def folder_sum(name: str, folder: Path) -> str:
    """A SHA-256 over the four files that `read_folder` reads, as they are, in hexadecimal.

    Raises:
      DataError: a file is missing or cannot be read.
    """
    sums = hashlib.sha256()
    for path in _find_all(name, folder):
        try:
            sums.update(sha256(path).encode())
        except OSError as error:
            raise _unreadable(path, error) from error
    return sums.hexdigest()


def conventional(name: str, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sets EMNIST's images upright and makes its letters count from 0; leaves all other sets alone."""
    if name.startswith("emnist/"):
        images = np.ascontiguousarray(images.swapaxes(1, 2))
    if name == "emnist/letters":
        labels = labels - np.uint8(1)
    return images, labels


def _find_all(name: str, folder: Path) -> list[Path]:
    """The four files of a data set, under MNIST's names or its own."""
    return [_find(folder, *names) for names in zip(file_names("mnist"), file_names(name), strict=True)]


def _find(folder: Path, *names: str) -> Path:
    """The first of the spellings of a file's name that exists."""
    for name in names:
        for spelling in (name, name.replace("-idx", ".idx")):  # unpacking tools have left both about
            for path in (folder / spelling, folder / f"{spelling}.gz"):
                if path.is_file():
                    return path
    raise DataError(
        f"{folder}: expected the file {names[-1]} or {names[-1]}.gz, found neither; "
        f"put the four IDX files there ({', '.join(file_names('mnist'))})"
    )


def read_pair(images_path: Path, labels_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads images and labels that belong together.

    Both headers are checked against each other and the files' sizes before any content is read, and no
    more is read than they promise, so a false header cannot fill the memory.

    Returns:
      uint8 [n, 28, 28] and uint8 [n], with n at least 1.

    Raises:
      DataError: a file cannot be read, is damaged, or does not fit the other.
    """
    path = images_path  # the file at work, for the message
    try:
        with _open(images_path) as image_stream, _open(labels_path) as label_stream:
            n = _count(image_stream, images_path, (SIDE, SIDE))
            path = labels_path
            if (found := _count(label_stream, labels_path, ())) != n:
                raise _wrong(labels_path, f"{n} labels, one an image of {images_path.name}", f"{found}")
            labels = _body(label_stream, labels_path, n)
            path = images_path
            return _body(image_stream, images_path, n * SIDE * SIDE).reshape(n, SIDE, SIDE), labels
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    return _wrong(path, "an IDX file, plain or gzipped", f"{type(error).__name__}: {error}")


def _wrong(path: Path, expected: str, found: str) -> DataError:
    return DataError(f"{path}: expected {expected}, found {found}; replace the file with a good copy")


def _open(path: Path) -> IO[bytes]:
    """Opens a file that is gzipped or not, whatever its name says: some browsers unpack silently."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if zipped else path.open("rb")  # pyright: ignore[reportReturnType]


def _count(stream: IO[bytes], path: Path, shape: tuple[int, ...]) -> int:
    """How many items of this shape the header promises, if the file can hold them."""
    dimensions = 1 + len(shape)
    header = stream.read(4 + 4 * dimensions)
    n = int.from_bytes(header[4:8], "big")
    good = struct.pack(f">4B{dimensions}I", 0, 0, 8, dimensions, n, *shape)  # 8: unsigned bytes
    if header != good or not n:
        form = "x".join(("n", *map(str, shape)))
        raise _wrong(
            path, f"the IDX header {good[:4].hex()} of {form} bytes, n at least 1", header.hex() or "nothing"
        )
    size, promised = path.stat().st_size, len(header) + n * math.prod(shape)
    if promised > _LARGEST:
        raise _wrong(path, f"at most {_LARGEST} bytes", f"a header that promises {promised}")
    zipped = isinstance(stream, gzip.GzipFile)
    if promised > 1032 * size if zipped else promised != size:  # deflate packs 1032 bytes in one at most
        raise _wrong(path, f"{promised} bytes, as its header promises", f"{size} bytes{', gzipped' * zipped}")
    return n


def _body(stream: IO[bytes], path: Path, size: int) -> np.ndarray:
    """Exactly `size` bytes and then the file's end; memory grows only with what is really there."""
    content = bytearray()
    while block := stream.read(min(1 << 20, size + 1 - len(content))):
        content += block
    if len(content) != size:
        found = "more" if len(content) > size else f"{len(content)}"
        raise _wrong(path, f"{size} bytes after its header", found)
    return np.frombuffer(content, np.uint8)
