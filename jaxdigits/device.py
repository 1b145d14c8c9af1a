"""Which device the programs run on, and how XLA is set up for it.

To be called before the first array is made: JAX starts its backends then, and reads most of its
settings only once.
"""

import os
import warnings
from typing import Any, Literal, TypeAlias

import jax

from jaxdigits import child
from jaxdigits.errors import DeviceError, StorageError
from jaxdigits.storage import cache_root, private_folder

__all__ = [
    "Device",
    "allocate_as_needed",
    "compiler_options",
    "describe",
    "dispatch_synchronously",
    "enable_compilation_cache",
    "nvidia_capability",
    "select",
]

Device: TypeAlias = jax.Device  # pyright: ignore[reportInvalidTypeForm]  # JAX assigns it, untyped


def select(device: Literal["auto", "cpu", "gpu"] = "auto", *, deterministic: bool = False) -> Device:
    """Starts the backend that is asked for and makes its first device the default.

    What it sets holds for the whole process, as JAX's settings do. Once a backend has been started, by
    whatever used JAX before, neither `deterministic` nor the way of taking memory can be changed.

    Args:
      device: `auto` takes a GPU if JAX finds one, `gpu` nothing else, `cpu` leaves a GPU alone.
      deterministic: ask XLA for GPU kernels whose results do not vary from run to run.

    Raises:
      DeviceError: `gpu` was asked for and there is none, or no backend starts.
    """
    allocate_as_needed()
    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")  # no other backend is started, if none has been yet
    if deterministic:
        flag = "--xla_gpu_deterministic_ops=true"
        if flag not in os.environ.get("XLA_FLAGS", ""):
            os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a GPU without its plugin is told below, where it matters
            chosen = jax.local_devices(backend="cpu" if device == "cpu" else None)[0]
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise DeviceError(f"JAX cannot start on this machine: {reason}") from error
    if device == "gpu" and chosen.platform != "gpu":
        raise DeviceError(
            f"--device gpu: JAX finds no GPU here, only {describe(chosen)}; "
            "install jaxdigits[cuda12] or jaxdigits[cuda13] beside a working driver, or use --device cpu"
        )
    jax.config.update("jax_default_device", chosen)
    return chosen


def allocate_as_needed() -> None:
    """Has GPU memory taken as it is needed, not all at once, unless the user's environment decides."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def dispatch_synchronously() -> None:
    """Has the thread that asks a CPU for something begin with it, if no backend has been started before.

    JAX leaves that to a thread of its own, so that the caller may go on meanwhile. Who reads a single picture
    has nothing to go on with, and its answer comes up to a third later (`benchmarks.predict_speed`; see
    https://github.com/openxla/xla/issues/18608). A training takes as long either way. JAX has no such setting
    for one program; whoever starts a backend first decides.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)


def compiler_options(platform: str, devices: int = 1) -> dict[str, Any]:
    """What a program for a platform is to be compiled with, for `jax.jit`.

    A CPU's XLA of jax 0.12 keeps its `optimization_barrier`s until it has fused what lies between them. Older
    ones drop them first, by a pass that is left out here, and then compute, for one, a layer's ReLU anew for
    each of the nine shifts of a 3x3 window. Without that pass, jax 0.10 needs a tenth less for an update of
    the preset `fast`; the results are the same to the bit. And they copy bfloat16 by way of float32, by a
    pass that is left out too: with it, an update of `standard` in bfloat16 takes a sixth longer, of `fast` a
    third. Several devices keep it: without it, products that do not come as `columns` has them fail there.

    Args:
      platform: of the devices.
      devices: how many the program is for.
    """
    if platform != "cpu" or jax.__version_info__ >= (0, 12):
        return {}
    direct = devices == 1 and jax.__version_info__ >= (0, 10)
    left_out = ["cse_barrier_expander", *["float-normalization-bf16"] * direct]
    return {"xla_disable_hlo_passes": ",".join(left_out)}


def describe(device: Device) -> str:
    """A device in words for people: `CPU (2 cores)`, `GPU (NVIDIA H100 80GB HBM3)`."""
    if device.platform == "cpu":
        cores = child.cores()
        return f"CPU ({cores} core{'s' if cores != 1 else ''})"
    return f"{device.platform.upper()} ({device.device_kind})"


def nvidia_capability(device: Device) -> float | None:
    """The compute capability of an NVIDIA GPU, such as 9.0 of an H100; None of anything else."""
    found = getattr(device, "compute_capability", "")  # "9.0"; AMD's are words
    return float(found) if found.replace(".", "", 1).isdecimal() else None


def enable_compilation_cache() -> bool:
    """Lets JAX keep compiled programs between processes, unless the user has already said where.

    Whoever can write to such a cache can run code as its reader: it lies in a folder of this
    user's, mode 0700. Every program is kept, however quickly it compiled.

    Returns:
      Whether a cache is in use; without a folder that can be written there is none.
    """
    if jax.config.values["jax_compilation_cache_dir"]:
        return True
    try:
        folder = private_folder(private_folder(cache_root()) / "xla")
    except StorageError:
        return False
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    return True
