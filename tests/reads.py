"""`jaxdigits train`, and how much it reads of a data set's training images, as a program for the tests.

    python -m tests.reads FILE train ...

What it has read of `train.u8` by the end, in bytes, is in FILE then.
"""

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest


@contextlib.contextmanager
def counted(name: str) -> Iterator[SimpleNamespace]:
    """Counts the bytes that are read of files of this name, by the two ways that this library has for it."""
    read, plain, whole = SimpleNamespace(total=0), Path.open, np.fromfile

    class Counting(io.FileIO):
        def readinto(self, buffer: Any) -> Any:
            found = super().readinto(buffer)
            read.total += found or 0
            return found

    def opened(path: Path, *arguments: Any, **options: Any) -> Any:
        # Whoever reads through a buffer, or writes, fails: it would not be counted.
        counts = path.name == name and options.get("buffering") == 0
        return Counting(path) if counts else plain(path, *arguments, **options)

    def read_whole(path: Any, *arguments: Any, **options: Any) -> np.ndarray:
        found = whole(path, *arguments, **options)
        read.total += found.nbytes * (Path(path).name == name)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", opened)
        patch.setattr(np, "fromfile", read_whole)
        yield read


if __name__ == "__main__":
    from jaxdigits.__main__ import main

    with counted("train.u8") as found:
        try:
            main(sys.argv[2:])
        finally:
            Path(sys.argv[1]).write_text(str(found.total))
