"""A folder that one process at a time may use.

The lock is the operating system's, on a file in the folder: it ends with the process that has it, however
that ends, so that none is ever left behind. The file itself may be, and means nothing.
"""

import contextlib
import errno
import os
import sys
from pathlib import Path

from jaxdigits.errors import UsageError

__all__ = ["LOCK_FILE", "Lock", "is_locked"]

LOCK_FILE = ".lock"
_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)  # what the systems say of a lock that another has


class Lock:
    """The lock of a folder, held from now on until `release`.

    Args:
      folder: one that exists.

    Raises:
      UsageError: another process has it, or this one already does.
      OSError: its file cannot be made.
    """

    def __init__(self, folder: Path):
        self._path = folder / LOCK_FILE
        while True:
            self._descriptor = os.open(
                self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666
            )
            try:
                if not _lock(self._descriptor):
                    raise UsageError(f"the run folder {folder} is in use by another training")
                if self._is_current():
                    return
            except BaseException:
                os.close(self._descriptor)
                raise
            os.close(self._descriptor)

    def _is_current(self) -> bool:
        """Whether the locked file still has its name: who had it locked before may have removed it."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Gives the folder free, and removes the file."""
        with contextlib.suppress(OSError):
            self._path.unlink()
        os.close(self._descriptor)


def is_locked(folder: Path) -> bool:
    """Whether a process has the lock of a folder now; changes nothing."""
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _lock(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Locks an open file until it is closed; False if another has locked it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
    return True  # also where the file system knows no locks: better to train without than not at all
