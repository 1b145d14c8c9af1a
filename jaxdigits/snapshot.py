"""A training in the middle: its whole state and records in one file, written beside the training.

What a training of one process saves is one safetensors file through `storage.atomic_write`: a file that is
renamed into place is complete or absent, opens on any number of devices of any kind, and costs some
milliseconds. Orbax takes a second to import, which is as long as a short training lasts; it writes the
checkpoints of several processes (`joint_snapshot`). Like a model, such a file is checked before it is
believed, and never run.
"""

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdigits.errors import DataError
from jaxdigits.network import named
from jaxdigits.storage import atomic_write

__all__ = [
    "Record",
    "Snapshot",
    "host_copy",
    "load_snapshot",
    "most_bytes",
    "packed",
    "save_snapshot",
    "unpacked",
]

_FORMAT = 3  # of the record, the state and the order of the images; a reader refuses any other
_ROOM = 2**26  # bytes that header and record may take: some 100,000 epochs


@dataclasses.dataclass(frozen=True)
class Record:
    """What is known of a training beside its weights.

    Attributes:
      step: updates made.
      history: the metrics of each finished epoch.
      best: those of the epoch with the best validation; None without one.
      epoch_seconds: time spent on the epoch that has begun.
      seconds: where the time went so far, as `Clock.total`.
      data: `Splits.digest` of the images that are trained on.
    """

    step: int
    history: list[dict[str, Any]]
    best: dict[str, Any] | None
    epoch_seconds: float
    seconds: dict[str, float]
    data: str


@dataclasses.dataclass(frozen=True, eq=False)
class Snapshot:
    """A training at one moment.

    Attributes:
      state: the `TrainState`, as NumPy arrays.
      best: the parameters of the epoch with the best validation; None without one.
      record: all else.
    """

    state: Any
    best: Any
    record: Record


def host_copy(tree: Any) -> Any:
    """Copies arrays to NumPy: what is returned stays as it is when theirs is used up."""
    return jax.tree.map(lambda leaf: np.array(leaf, order="C"), tree)


def save_snapshot(path: str | os.PathLike[str], snapshot: Snapshot) -> bool:
    """Writes a snapshot, whole or not at all.

    Returns:
      Whether it was worth keeping: one with a number that is not finite is not written.

    Raises:
      StorageError: the file cannot be written; the one that was there is as it was.
    """
    from safetensors.numpy import save

    tensors, metadata = packed(snapshot)
    if not tensors:
        return False
    content = save(tensors, metadata=metadata)
    with atomic_write(path) as file:
        file.write(content)
    return True


def packed(snapshot: Snapshot) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """A snapshot as arrays by name, none if a number is not finite, and all else as text by name."""
    tensors = _leaves(snapshot.state, snapshot.best)
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        return {}, {}
    about = json.dumps({"format": _FORMAT, **dataclasses.asdict(snapshot.record)})
    return tensors, {"jaxdigits": about, "sha256": _digest(about, tensors.values())}


def most_bytes(state: Any, params: Any) -> int:
    """How large a snapshot of arrays of these shapes and dtypes may be."""
    return 2 * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((state, params))) + _ROOM


def load_snapshot(path: str | os.PathLike[str], state: Any, params: Any) -> Snapshot:
    """Reads a snapshot.

    Args:
      path: of the file.
      state: the shapes and dtypes of the state that it must hold.
      params: those of the parameters.

    Raises:
      DataError: the file cannot be read, is damaged, or belongs to another training.
      FileNotFoundError: there is none.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    file = Path(path)
    most = most_bytes(state, params)
    try:
        size = file.stat().st_size
        if size > most:
            raise ValueError(f"{size} bytes, expected at most {most}")
        content = file.read_bytes()
        tensors = load(content)  # checks that header, offsets and length fit together
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return unpacked(tensors, header["__metadata__"], state, params)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(f"cannot read the checkpoint {file}: {error.strerror or error}") from error
    except (SafetensorError, LookupError, TypeError, ValueError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{file} is no checkpoint of this run, or a damaged one: {reason}; "
            "remove it, and the run resumes from its beginning"
        ) from error


def unpacked(
    tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str], state: Any, params: Any
) -> Snapshot:
    """The snapshot of which `packed` has made these.

    Args:
      tensors: arrays by name.
      metadata: all else.
      state: as for `load_snapshot`.
      params: as for `load_snapshot`.

    Raises:
      LookupError, TypeError, ValueError, OverflowError or RecursionError: they do not fit together.
    """
    about = json.loads(metadata["jaxdigits"])
    if about.pop("format") != _FORMAT:
        raise ValueError(f"its format is another than {_FORMAT}, which this version reads")
    record = Record(**about)
    kinds = {"step": int, "history": list, "epoch_seconds": float, "seconds": dict, "data": str}
    for name, kind in kinds.items():
        if type(getattr(record, name)) is not kind:
            raise TypeError(f"its {name} is no {kind.__name__}")
    figures = [*record.history, record.seconds, *([] if record.best is None else [record.best])]
    if not all(map(_is_figures, figures)):
        raise ValueError("its figures are no numbers")
    best = None if record.best is None else params
    expected = _leaves(state, best)
    if tensors.keys() != expected.keys():
        raise ValueError(f"{sorted(tensors.keys() ^ expected.keys())[0]} is missing or unknown")
    for name, like in expected.items():
        if (tensors[name].shape, tensors[name].dtype) != (like.shape, like.dtype):
            raise ValueError(f"{name} has another shape or number format")
    ordered = [tensors[name] for name in expected]
    if metadata["sha256"] != _digest(metadata["jaxdigits"], ordered):
        raise ValueError("its checksum is wrong")
    count = len(jax.tree.leaves(state))
    restored = jax.tree.unflatten(jax.tree.structure(state), ordered[:count])
    if record.step != restored.step:
        raise ValueError(f"it is of update {record.step} and of update {restored.step}")
    best = None if best is None else jax.tree.unflatten(jax.tree.structure(params), ordered[count:])
    return Snapshot(restored, best, record)


def _is_figures(value: Any) -> bool:
    """Whether it is a mapping of names to finite numbers."""
    return isinstance(value, dict) and all(
        type(number) in (int, float) and math.isfinite(number) for number in value.values()
    )


def _leaves(state: Any, best: Any) -> dict[str, Any]:
    """All arrays by their dotted paths, in the trees' order."""
    trees = {"state": state, "best": best}
    return {f"{root}.{name}": leaf for root, tree in trees.items() for name, leaf in named(tree).items()}


def _digest(about: str, tensors: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256(about.encode())
    for tensor in tensors:
        digest.update(tensor.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
