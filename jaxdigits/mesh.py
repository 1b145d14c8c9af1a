"""The devices of a run as one mesh, and how arrays lie on it.

A mesh has two axes. The images of a batch are divided along `data`, with a copy of the weights on every
device: from that alone `jit` puts in the sums over devices that the gradients need. Along `model` lie
models that are trained side by side and know nothing of each other. One device is a mesh of one, and every
run has a mesh.

The training images are resident on every device, whole: a batch is then gathered without any traffic, and
the largest set that this library knows, EMNIST by class, has 547 MB. How processes find each other is left
to `distributed`.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxdigits.config import Devices
from jaxdigits.device import Device, describe
from jaxdigits.errors import DeviceError

__all__ = [
    "along",
    "choose",
    "copies",
    "divided",
    "make_mesh",
    "own_rows",
    "replicated",
    "resident",
    "shapes_on",
]


def choose(wanted: Devices, first: Device) -> list[Device]:
    """The devices that a run takes, in the order of the processes that they belong to.

    Args:
      wanted: how many in all processes together, or all; None for one in a process by itself, and for all
        where there are several.
      first: a device of the kind that is meant.

    Raises:
      DeviceError: there are not so many, or they cannot be divided evenly among the processes.
    """
    processes = jax.process_count()
    if processes == 1 and wanted in (None, 1):
        return [first]
    there = jax.devices(first.platform)
    if wanted in (None, "all"):
        return sorted(there, key=lambda device: (device.process_index, device.id))
    each, odd = divmod(int(wanted), processes)
    if odd:
        raise DeviceError(f"--devices {wanted} cannot be divided among {processes} processes")
    chosen: list[Device] = []
    for process in range(processes):
        local = [device for device in there if device.process_index == process]
        if len(local) < each:
            where = f" in process {process}" if processes > 1 else ""
            raise DeviceError(
                f"--devices {wanted}: there {'is' if len(local) == 1 else 'are'} only {len(local)}{where}, "
                f"{describe(first)}; give fewer, or --devices all"
                + (
                    "; XLA_FLAGS=--xla_force_host_platform_device_count=N simulates N devices on a CPU"
                    if first.platform == "cpu"
                    else ""
                )
            )
        chosen += local[:each]
    return chosen


def make_mesh(devices: Sequence[Device], models: int = 1) -> Mesh:
    """The devices as a mesh, `models` of them along its second axis; a divisor of their number."""
    return Mesh(np.asarray(devices, dtype=object).reshape(-1, models), ("data", "model"))


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, P())


def along(mesh: Mesh, *axes: str | None) -> NamedSharding:
    """Divided along an axis of the mesh for each axis of the array, or not divided where it is None."""
    return NamedSharding(mesh, P(*axes))


def shapes_on(sharding: NamedSharding, tree: Any) -> Any:
    """The shapes and dtypes of a tree of arrays that lie so."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)


def divided(mesh: Mesh, array: np.ndarray, *axes: str | None) -> jax.Array:
    """An array that each process has whole, on the devices as `along` says."""
    return jax.make_array_from_callback(array.shape, along(mesh, *axes), lambda index: array[index])


def copies(mesh: Mesh, tree: Any) -> Any:
    """A whole copy on every device of a tree of NumPy arrays, which each process has whole."""
    return jax.tree.map(functools.partial(divided, mesh), tree)


def resident(mesh: Mesh, array: np.ndarray) -> jax.Array:
    """A whole copy of an array of rows on every device, of which each process brings only its share.

    Several processes each take an equal part of the rows to their devices, and the devices exchange them:
    once a run, by one all-gather. Of an array that is on disk (`rows.Rows`) no other part is read.
    """
    if jax.process_count() == 1:
        return jax.device_put(np.asarray(array), replicated(mesh))
    n, shares = len(array), mesh.size
    rows = math.ceil(n / shares)

    def share(index: Any) -> np.ndarray:
        return _filled_up(np.asarray(array[index[0]]), rows)

    shape, sharding = (rows * shares, *array.shape[1:]), NamedSharding(mesh, P(("data", "model")))
    shared = jax.make_array_from_callback(shape, sharding, share, dtype=array.dtype)
    return jax.jit(lambda rows: rows[:n], out_shardings=replicated(mesh))(shared)


def own_rows(sharding: NamedSharding, array: np.ndarray, rows: int) -> np.ndarray:
    """An array filled up with zeros to so many rows, for devices among which they are divided.

    Of one that is on disk (`rows.Rows`) only those are read that this process brings to its devices; the
    others are zeros as well.
    """
    if isinstance(array, np.ndarray):
        return _filled_up(array, rows)
    filled = np.zeros((rows, *array.shape[1:]), array.dtype)
    for index in sharding.addressable_devices_indices_map(filled.shape).values():
        begin, end, _ = (index[0] if index else slice(None)).indices(len(array))
        filled[begin:end] = np.asarray(array[begin:end])
    return filled


def _filled_up(array: np.ndarray, rows: int) -> np.ndarray:
    """An array of so many rows, of which zeros make up those that are lacking."""
    lacking = rows - len(array)
    return np.pad(array, ((0, lacking), *[(0, 0)] * (array.ndim - 1))) if lacking else array
