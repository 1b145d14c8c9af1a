"""A trace of a few updates in the steady state, by JAX's own profiler.

It is taken on a copy of the state, behind the training: what is trained does not depend on it.
"""

import contextlib
import os
from pathlib import Path

import jax
import jax.numpy as jnp

from jaxdigits.distributed import first
from jaxdigits.errors import StorageError
from jaxdigits.executor import Executor
from jaxdigits.step import Data, TrainState

__all__ = ["PROFILED", "profile"]

PROFILED = 5  # updates in a trace: enough to see which differ, few enough to read


def profile(folder: str | os.PathLike[str], executor: Executor, state: TrainState, data: Data) -> None:
    """Traces some updates into a folder, which XProf, TensorBoard and Perfetto read.

    Of several processes, all make them, and process 0 traces.

    Args:
      folder: gets `plugins/profile/TIME/` with an `.xplane.pb` and a `perfetto_trace.json.gz`.
      executor: the training's.
      state: the state to go on from; it stays as it is.
      data: the data.

    Raises:
      StorageError: the trace cannot be written.
    """
    copied = jax.jit(lambda state: jax.tree.map(jnp.copy, state))(state)
    warm = jax.block_until_ready(executor(copied, data, PROFILED))
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        trace = jax.profiler.trace(os.fspath(folder), create_perfetto_trace=True)
        with trace if first() else contextlib.nullcontext():
            jax.block_until_ready(executor(warm, data, PROFILED))
    except (OSError, RuntimeError) as error:
        raise StorageError(f"cannot write a profile to {folder}: {error}") from error
