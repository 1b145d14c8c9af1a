"""Rows of a file as an array, of which only those are read and verified that are asked for.

Of several processes that train together, each needs but some of a data set's images. Indexing chooses among
the rows, which costs nothing; `np.asarray` reads those that are chosen, and nothing is kept. Every row has a
checksum of its own, since so many are asked for that lie scattered, such as images held out at random: of
larger blocks they would touch nearly all.
"""

import contextlib
import copy
import hashlib
import math
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from jaxdigits.errors import DataError
from jaxdigits.storage import size_within

__all__ = ["Rows", "row_sums"]

_SUM = 32  # bytes of a SHA-256


def row_sums(rows: np.ndarray) -> np.ndarray:
    """The SHA-256 of each row of an array: uint8 [n, 32]."""
    digests = b"".join(hashlib.sha256(row.tobytes()).digest() for row in rows)
    return np.frombuffer(digests, np.uint8).reshape(-1, _SUM)


class Rows:
    """Rows of uint8 in a file, which stand for the array of them.

    Args:
      folder: where the file is; a link that leads out of it is not followed.
      file: its name.
      size: bytes that it has.
      shape: of the array: the number of rows, and the shape of each.
      sums: what `row_sums` says of them: uint8 [n, 32].
      start: bytes before the first one.

    Raises:
      OSError: there is no such file.
      ValueError: it is none that can be read, or has another size; or the rest does not fit.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self, folder: Path, file: str, size: int, shape: tuple[int, ...], sums: np.ndarray, start: int = 0
    ):
        self._place, self._size, self._start = (folder, file), size, start
        self._row, self._sums = shape[1:], sums
        if size_within(folder, file) != size or start + math.prod(shape) > size:
            raise ValueError(file)
        if sums.shape != (shape[0], _SUM):
            raise ValueError(f"{file}: {len(sums)} checksums of {shape[0]} rows")
        self._chosen = np.arange(shape[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """As of the array."""
        return (len(self._chosen), *self._row)

    @property
    def ndim(self) -> int:
        """As of the array."""
        return len(self.shape)

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: Any) -> "Rows":
        """The rows of a slice, or of an array of indices or of booleans; nothing is read yet."""
        chosen = self._chosen[index]
        if np.ndim(chosen) != 1:
            raise TypeError("rows are chosen by a slice or by an array of one dimension")
        some = copy.copy(self)
        some._chosen = chosen
        return some

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Reads the chosen rows.

        Raises:
          DataError: one of them is damaged, or cannot be read. A damaged file is removed, so that whoever
            looks for it next makes it again.
        """
        if copy is False:
            raise ValueError("rows are not in memory: they cannot be had without a copy")
        rows = self._chosen
        if (np.diff(rows) <= 0).any():
            rows = np.unique(rows)
        found = self._read(rows)
        if rows is not self._chosen:
            found = found[np.searchsorted(rows, self._chosen)]
        return found.reshape(self.shape).astype(dtype or self.dtype, copy=False)

    def _read(self, rows: np.ndarray) -> np.ndarray:
        """These rows, in ascending order: uint8 [n, bytes]; neighbours are read at once."""
        path, width = self._place[0] / self._place[1], math.prod(self._row)
        begins = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
        ends = np.append(begins[1:], len(rows))
        try:
            whole = size_within(*self._place) == self._size  # before memory is taken
            found = np.empty((len(rows) if whole else 0, width), np.uint8)
            with path.open("rb", buffering=0) as file:
                for begin, end in zip(begins, ends, strict=False) if whole else ():
                    file.seek(self._start + int(rows[begin]) * width)
                    whole &= _filled(file, found[begin:end].reshape(-1).data)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: expected images, found {type(error).__name__}: {error}") from error
        if not whole or not np.array_equal(row_sums(found), self._sums[rows]):
            with contextlib.suppress(OSError):
                path.unlink()
            raise DataError(
                f"{path}: expected the content that was written, found other; start again: it is removed, "
                "and prepared anew"
            )
        return found


def _filled(file: FileIO, room: memoryview) -> bool:
    """Reads until there is no more room, as a read may bring less than it was asked for; False at the end."""
    while len(room):
        count = file.readinto(room)
        if not count:
            return False
        room = room[count:]
    return True
