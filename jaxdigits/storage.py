"""Writing files so that each is complete or absent, and the folders of this user.

The one place that knows how a file comes into being: under a temporary name beside its final one,
flushed to the disk, then renamed. Whatever interrupts it leaves the earlier file untouched.
"""

import contextlib
import hashlib
import json
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from jaxdigits.errors import StorageError

__all__ = [
    "atomic_write",
    "cache_root",
    "private_folder",
    "read_bounded",
    "sha256",
    "size_within",
    "write_json",
]


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Opens a binary file that appears under `path` only once it is whole.

    Args:
      path: where the finished file shall lie; its folder must exist. A file already there is
        replaced in one step, or kept if anything goes wrong.

    Yields:
      A writable, seekable binary file.

    Raises:
      StorageError: the file cannot be created, written or renamed.
    """
    final = Path(path)
    temporary: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{final.name}.", suffix=".tmp", dir=final.parent)
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(final)
        temporary = None
        _sync_folder(final.parent)
    except OSError as error:
        raise StorageError(f"cannot write {final}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """Has the names in a folder outlive a power cut, where the system can be asked for it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _umask() -> int:
    """The permission bits that this process withholds from new files."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes `value` as indented JSON with a closing newline, whole or not at all.

    Raises:
      StorageError: the file cannot be written.
    """
    with atomic_write(path) as file:
        file.write((json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_bounded(path: str | os.PathLike[str], at_most: int) -> bytes:
    """The content of a file that a stranger may have made: no more is read than `at_most` bytes and one.

    What it says of its own size is not asked, since a device says 0 and never ends.

    Raises:
      OSError: it cannot be read.
      ValueError: it is larger, or the path has a null character.
    """
    blocks, left = [], at_most + 1
    with Path(path).open("rb") as file:
        while left and (block := file.read(min(left, 2**20))):
            blocks.append(block)
            left -= len(block)
    if not left:
        raise ValueError(f"it is larger than {at_most:,} bytes")
    return b"".join(blocks)


def size_within(folder: Path, file: str) -> int:
    """Bytes of a regular file within a folder; of any other, such as a pipe or what a link leads to, none.

    Raises:
      OSError: there is none.
      ValueError: it is another.
    """
    path = folder / file
    status = path.lstat()
    if not path.resolve().is_relative_to(folder.resolve()) or not stat.S_ISREG(status.st_mode):
        raise ValueError(file)
    return status.st_size


def sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_root() -> Path:
    """The folder of this user's caches: `$JAXDIGITS_CACHE`, or the platform's own place for it."""
    if chosen := os.environ.get("JAXDIGITS_CACHE"):
        return Path(os.path.expanduser(chosen)).resolve()  # noqa: PTH111 (which raises for an unknown user)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "jaxdigits"


def private_folder(path: str | os.PathLike[str]) -> Path:
    """Makes sure that `path` is a folder that no other user can write to, and returns it.

    A new one is made with mode 0700; one that is there is never changed.

    Raises:
      StorageError: it cannot be created, is not a folder, belongs to somebody else, or others may write
        to it.
    """
    folder = Path(path)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        if hasattr(os, "getuid") and status.st_uid != os.getuid():
            raise StorageError(
                f"{folder} belongs to another user; set JAXDIGITS_CACHE to a folder of your own"
            )
        if hasattr(os, "getuid") and status.st_mode & 0o022:
            raise StorageError(
                f"others may write to {folder}; take that right away, or set JAXDIGITS_CACHE to another"
            )
    except OSError as error:
        raise StorageError(
            f"cannot use the folder {folder}: {error.strerror or error}; "
            "set JAXDIGITS_CACHE to a folder of your own"
        ) from error
    return folder
