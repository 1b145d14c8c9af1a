"""The last snapshot of a training, wherever it is: in one file, or in a folder that several processes wrote.

A run may go on in another number of processes than it was begun with. So either kind is read by any number,
each is written by those it is meant for, and the newer one counts.
"""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from jaxdigits.distributed import agree, first
from jaxdigits.joint_snapshot import JointSnapshots
from jaxdigits.snapshot import Snapshot, load_snapshot, save_snapshot

__all__ = ["LAST_FILE", "LAST_FOLDER", "LastSnapshot"]

LAST_FILE = "last.safetensors"  # in a run folder: as `snapshot` has it
LAST_FOLDER = "last"  # as `joint_snapshot` has it


class LastSnapshot:
    """That of the training in a run folder. All its processes use it alike.

    Args:
      folder: of the run.
      mesh: the devices of the training.
    """

    def __init__(self, folder: Path, mesh: Mesh):
        self._file, self._folder = folder / LAST_FILE, folder / LAST_FOLDER
        self._joint = JointSnapshots(self._folder, mesh)

    @property
    def path(self) -> Path | None:
        """Where it is; None if there is none."""
        return next((path for path in (self._file, self._folder) if path.exists()), None)

    def load(self, state: Any, params: Any) -> Snapshot | None:
        """Reads it; None if there is none. The arguments and errors are those of `load_snapshot`.

        Raises:
          UsageError: not all processes see the same.
        """
        agree({"checkpoints": [self._file.exists(), self._joint.steps()]})
        found = []
        for load in (lambda *like: load_snapshot(self._file, *like), self._joint.load):
            with contextlib.suppress(FileNotFoundError):
                found.append(load(state, params))
        return max(found, key=lambda snapshot: snapshot.record.step, default=None)

    def save(self, snapshot: Snapshot, before: Callable[[], None]) -> Callable[[], None]:
        """Begins to replace it, and returns what ends that, which may be called in another thread.

        Args:
          snapshot: what it is to be.
          before: writes what has to be there before it is.

        Raises:
          StorageError: it cannot be written, which may show only at the end; the one that was there is kept.
        """
        if jax.process_count() > 1:
            before()
            end = self._joint.save(snapshot)
            return lambda: self._remove(self._file) if end() else None

        def write() -> None:
            before()
            if save_snapshot(self._file, snapshot):
                self._remove(self._folder)

        return write

    def _remove(self, older: Path) -> None:
        """Removes one of the other kind, for which there is a newer one now."""
        if first():
            with contextlib.suppress(OSError):
                older.unlink() if older == self._file else shutil.rmtree(older)
