"""Folders of a cache, each whole or made again.

A folder is built beside its place, summed up in a file of checksums, and renamed into place in one
step: a process that is killed leaves nothing half-made, and of two that build at once the second uses
the first one's result. SHA-256 finds any
damage, not only the accidental, at 1 GB/s or more. What is in a folder, and how it is built, is left to
`dataset` and `records`.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np

from jaxdigits.errors import StorageError
from jaxdigits.storage import read_bounded, sha256, size_within, write_json

__all__ = ["DAMAGE", "aligned", "contents", "install", "intact", "recorded"]

DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What reading the `contents` of a damaged folder may raise."""

_SUMS = "sha256.json"
_SUMS_LARGEST = 2**20  # bytes: a folder has some ten files
_LARGEST = 2**32  # bytes of a file: five times EMNIST's largest
_ALIGNMENT = 64  # bytes: XLA's least, for vectors of AVX-512
_STALE = 24 * 3600  # seconds until a temporary folder counts as left behind: longer than any download


def recorded(folder: Path) -> dict[str, tuple[int, str]]:
    """What each file of a folder that `install` made was when it was written: bytes, and their SHA-256.

    Raises:
      DAMAGE: the folder is not there, or damaged.
    """
    size_within(folder, _SUMS)
    sums = json.loads(read_bounded(folder / _SUMS, _SUMS_LARGEST))
    return {file: (size, digest) for file, (size, digest) in sums.items()}


def contents(folder: Path, *files: str) -> Iterator[tuple[str, np.ndarray]]:
    """Reads these files of a folder that `install` made, or all: their names, and their bytes as uint8 [n].

    Raises:
      DAMAGE: the folder or one of the files is not there, or not as it was written.
    """
    sums = recorded(folder)
    for file in files or sums:
        size, digest = sums[file]
        if size_within(folder, file) != size or size > _LARGEST:  # looked at first: it may be beyond memory
            raise ValueError(file)
        content = aligned(size)
        with (folder / file).open("rb") as stream:
            if stream.readinto(content.data) != size:
                raise ValueError(file)
        if hashlib.sha256(content.data).hexdigest() != digest:
            raise ValueError(file)
        yield file, content


def aligned(size: int) -> np.ndarray:
    """Memory for so many bytes, uint8 [size], that a CPU's XLA takes as it is, where it would copy other."""
    room = np.empty(size + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    return room[start : start + size]


def intact(folder: Path, files: Collection[str] = ()) -> bool:
    """Whether a folder is there, with these files at least, and all in it are as they were written."""
    try:
        found = {file for file, _ in contents(folder)}
        return bool(found) and found.issuperset(files)
    except DAMAGE:
        return False


def install(folder: Path, build: Callable[[Path], None]) -> None:
    """Builds a folder beside its place and renames it there, unless another process was quicker.

    A whole folder that lacks a file that `build` makes, as one of an earlier version of this library, is
    replaced.

    Raises:
      StorageError: the disk is full or not writable.
    """
    try:
        for old in folder.parent.glob(".*.tmp"):  # left behind by processes that were killed
            if time.time() - old.stat().st_mtime > _STALE:
                shutil.rmtree(old, ignore_errors=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent, ignore_cleanup_errors=True
        ) as temporary:
            new = Path(temporary) / "new"
            new.mkdir()
            build(new)
            files = [path for path in sorted(new.rglob("*")) if path.is_file()]
            sums = {path.relative_to(new).as_posix(): (path.stat().st_size, sha256(path)) for path in files}
            write_json(new / _SUMS, sums)
            if not intact(folder, sums):
                if os.path.lexists(folder):
                    folder.rename(Path(temporary) / "old")
                new.rename(folder)
    except OSError as error:
        if not intact(folder):
            raise StorageError(
                f"cannot write {folder}: {error.strerror or error}; set JAXDIGITS_CACHE to a folder with room"
            ) from error
