"""Small data sets in IDX files, and what the tests of several modules say about messages."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

STEMS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def one_line(caught: pytest.ExceptionInfo) -> str:
    message = str(caught.value)
    assert "\n" not in message
    return message


def silent(line: str) -> None:
    raise AssertionError(f"nothing should have been said, but: {line}")


def write_idx(folder: Path, arrays: list[np.ndarray], *, zipped: bool = False, dotted: bool = False) -> None:
    for stem, array in zip(STEMS, arrays, strict=True):
        content = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
        name = stem.replace("-idx", ".idx") if dotted else stem
        (folder / f"{name}{'.gz' * zipped}").write_bytes(gzip.compress(content) if zipped else content)


def small(train: int = 5, test: int = 3, seed: int = 0, classes: int = 10) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [
        part
        for n in (train, test)
        for part in (
            random.integers(0, 256, (n, 28, 28), np.uint8),
            random.integers(0, classes, n).astype(np.uint8),
        )
    ]


def damage(path: Path) -> None:
    """Flips one bit of a file, but not of the file that this one may be a hard link to."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)
