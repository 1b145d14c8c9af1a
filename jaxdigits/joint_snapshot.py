"""Snapshots that all processes of a training write together, through Orbax, and that any number can read.

Each array is divided among the devices along an axis that allows it; every process writes the parts that lie
on its own, and a snapshot counts once all of them are there, and their checksums beside them. So the folder
has to lie on a file system that all of the processes see. What is read is checked as a snapshot in one file
is (`snapshot`), which is what a training of one process writes.
"""

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxdigits.distributed import first
from jaxdigits.errors import DataError, StorageError
from jaxdigits.snapshot import Snapshot, most_bytes, packed, unpacked
from jaxdigits.storage import read_bounded, sha256, size_within, write_json

__all__ = ["JointSnapshots"]

_SUMS_FILE = "sha256.json"  # in a snapshot's folder: written when all else is there


class JointSnapshots:
    """Snapshots in a folder of their own, of which the last two are kept. All processes use them alike.

    Args:
      folder: of the snapshots, each in a folder named by its update.
      mesh: the devices of the training.
    """

    def __init__(self, folder: Path, mesh: Mesh):
        self._folder, self._mesh = folder.absolute(), mesh
        self._writer: Any = None

    def steps(self) -> list[int]:
        """The updates of which there are whole snapshots, in ascending order."""
        try:
            return sorted(
                int(path.name)
                for path in self._folder.iterdir()
                if path.name.isdecimal() and (path / _SUMS_FILE).exists()
            )
        except FileNotFoundError:
            return []
        except OSError as error:
            raise DataError(f"cannot read {self._folder}: {error.strerror or error}") from error

    def save(self, snapshot: Snapshot) -> Callable[[], bool]:
        """Begins to write a snapshot, which all processes have alike; the one before is kept as well.

        Returns:
          What waits until it is written, and says whether it was: one that is not finite is not.

        Raises:
          StorageError: it cannot be written, which may show only at that wait.
        """
        tensors, metadata = packed(snapshot)
        if not tensors:
            return lambda: False
        parts = {
            name: jax.make_array_from_callback(
                tensor.shape, _divided(self._mesh, tensor.shape), lambda index, tensor=tensor: tensor[index]
            )
            for name, tensor in tensors.items()
        }
        step = snapshot.record.step

        def begin() -> Any:
            self._writer = self._writer or _checkpointer(self._folder, tidy=True)
            return self._writer.save_async(step, parts, overwrite=True, custom_metadata=metadata)

        pending = self._tried(begin)

        def end() -> bool:
            self._tried(pending.result)
            if first():
                write_json(self._folder / str(step) / _SUMS_FILE, _sums(self._folder / str(step)))
            return True

        return end

    def _tried(self, action: Callable[[], Any]) -> Any:
        """Orbax, and what it is built of, raise errors of many classes when a disk is full or gone."""
        try:
            return action()
        except Exception as error:
            raise StorageError(f"cannot write a checkpoint to {self._folder}: {_reason(error)}") from error

    def load(self, state: Any, params: Any) -> Snapshot:
        """Reads the last snapshot.

        Args:
          state: the shapes and dtypes of the state that it must hold.
          params: those of the parameters.

        Raises:
          DataError: it cannot be read, is damaged, or belongs to another training.
          FileNotFoundError: there is none.
        """
        steps = self.steps()
        if not steps:
            raise FileNotFoundError(self._folder)
        try:
            return self._loaded(steps[-1], state, params)
        except Exception as error:  # as in `_tried`
            raise DataError(
                f"{self._folder / str(steps[-1])} is no checkpoint of this run, or a damaged one: "
                f"{_reason(error)}; remove it, and the run resumes from the one before or from its beginning"
            ) from error

    def _loaded(self, step: int, state: Any, params: Any) -> Snapshot:
        most, folder = most_bytes(state, params), self._folder / str(step)
        if sum(size_within(folder, name) for name in _files(folder)) > most:
            raise ValueError(f"it has more than {most} bytes")
        if json.loads(read_bounded(folder / _SUMS_FILE, most)) != _sums(folder):
            raise ValueError("the checksum of a file is wrong")
        reader = _checkpointer(self._folder)
        try:
            about = reader.metadata(step)
            whole = NamedSharding(self._mesh, P())
            shapes = {
                name: jax.ShapeDtypeStruct(part.shape, part.dtype, sharding=whole)
                for name, part in about.metadata.items()
            }
            if sum(math.prod(part.shape) * part.dtype.itemsize for part in shapes.values()) > most:
                raise ValueError(f"its arrays have more than {most} bytes")
            tensors = jax.tree.map(np.asarray, reader.load(step, shapes))
            return unpacked(tensors, about.custom_metadata, state, params)
        finally:
            reader.close()


def _files(folder: Path) -> list[str]:
    """The files of a snapshot, but for that of their checksums."""
    paths = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted({path.relative_to(folder).as_posix() for path in paths} - {_SUMS_FILE})


def _sums(folder: Path) -> dict[str, str]:
    """The SHA-256 of each of them."""
    return {name: sha256(folder / name) for name in _files(folder)}


def _checkpointer(folder: Path, *, tidy: bool = False) -> Any:
    """Orbax's, which keeps the last two; `tidy` has it remove what was left half-written."""
    from orbax.checkpoint import v1 as ocp

    logging.getLogger("absl").addFilter(_not_orbax)
    # What is not divided is small: one process writes it, instead of compiling a program to cut it up.
    context = ocp.Context()
    context.array.saving.use_replica_parallel = False
    return ocp.training.Checkpointer(
        str(folder),
        context=context,
        preservation_policy=ocp.training.preservation_policies.LatestN(2),  # pyright: ignore
        cleanup_tmp_directories=tidy,
    )


def _not_orbax(record: logging.LogRecord) -> bool:
    """Keeps to itself what Orbax logs, tracebacks and all, of errors that it raises as well."""
    return "orbax" not in record.pathname


def _divided(mesh: Mesh, shape: tuple[int, ...]) -> NamedSharding:
    """An array's first axis that can be divided evenly among all devices is; without one, none is."""
    axis = next((axis for axis, size in enumerate(shape) if size % mesh.size == 0), None)
    return NamedSharding(mesh, P() if axis is None else P(*[None] * axis, tuple(mesh.axis_names)))


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
