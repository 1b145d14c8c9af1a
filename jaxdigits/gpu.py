"""Why JAX uses a GPU, or does not: driver, plugin, CUDA libraries, settings, in the order in which they fail.

Only for people who ask (`doctor`): the training takes what JAX gives it (`device`).
"""

import contextlib
import ctypes
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

__all__ = ["Gpu", "explain", "look"]

_PLUGINS = ("jax-cuda12-plugin", "jax-cuda13-plugin", "jax-cuda12-pjrt", "jax-cuda13-pjrt")
# Each is loaded by the plugin, or by XLA through it, from the packages nvidia-* or from the system.
_LIBRARIES = ("cudart", "cublas", "cudnn", "cufft", "cusolver", "cusparse", "cupti", "nvjitlink", "nccl")
_DRIVER_OF_CUDA_13 = 580  # docs.nvidia.com/cuda/cuda-toolkit-release-notes: the first branch that runs it
_PATIENCE = 10  # seconds for nvidia-smi, which waits for a driver that hangs


class Gpu(NamedTuple):
    """What of an NVIDIA GPU is there.

    Attributes:
      seen: the devices that JAX has beside the CPU, in words.
      driver: the driver's version, or "" where none runs.
      plugins: JAX's CUDA packages that are installed, name to version.
      missing: CUDA packages that the plugin wants and that are not installed.
      refusal: what JAX says when it is asked for a GPU, or "".
      settings: the environment variables that decide it.
    """

    seen: Sequence[str]
    driver: str
    plugins: Mapping[str, str]
    missing: Sequence[str]
    refusal: str
    settings: Mapping[str, str]


def look() -> Gpu:
    """Looks for a GPU and what it needs. Starts JAX's backends."""
    import jax

    try:
        seen, refusal = [f"{d.platform.upper()} {d.device_kind}" for d in jax.devices("gpu")], ""
    except RuntimeError as error:
        seen, refusal = [], " ".join(str(error).split())
    plugins = {}
    for name in _PLUGINS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            plugins[name] = metadata.version(name)
    names = ("JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES", "JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "LD_LIBRARY_PATH")
    settings = {name: os.environ[name] for name in names if name in os.environ}
    return Gpu(seen, _driver(), plugins, _missing(plugins), refusal, settings)


def _driver() -> str:
    """The version of the driver that runs, from the kernel or from nvidia-smi; or ""."""
    with contextlib.suppress(OSError):
        found = re.search(r"\b\d{3}\.\d[\d.]*", Path("/proc/driver/nvidia/version").read_text())
        return found[0] if found else "of unknown version"
    command = shutil.which("nvidia-smi")
    if command is None:
        return ""
    try:
        query = [command, "--query-gpu=driver_version", "--format=csv,noheader"]
        done = subprocess.run(query, capture_output=True, text=True, timeout=_PATIENCE, check=True)  # noqa: S603
        return done.stdout.partition("\n")[0].strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _missing(plugins: Mapping[str, str]) -> list[str]:
    """The CUDA libraries that are neither installed as packages beside the plugin nor found by the loader."""
    if not plugins:
        return []
    packages = {name.lower() for d in metadata.distributions() if (name := d.metadata["Name"])}
    version = "13" if any("cuda13" in name for name in plugins) else "12"

    return [library for library in _LIBRARIES if not _there(library, version, packages)]


def _there(library: str, version: str, packages: set[str]) -> bool:
    """Whether a CUDA library is among the packages, or where the loader finds it."""
    name = {"cudart": "cuda-runtime", "cupti": "cuda-cupti"}.get(library, library)
    if packages & {f"nvidia-{name}", f"nvidia-{name}-cu{version}"}:
        return True
    try:
        return bool(ctypes.CDLL(f"lib{library}.so"))
    except OSError:
        return False


def explain(gpu: Gpu) -> tuple[bool, str, str]:
    """Whether a GPU is used as far as there is one, what was found, and the cure.

    Without a driver and a plugin there is nothing to be mended: the CPU is what there is to use.
    """
    parts = [*(f"{name} {version}" for name, version in gpu.plugins.items() if name.endswith("plugin"))]
    if gpu.driver:
        parts.insert(0, f"driver {gpu.driver}")
    if gpu.seen:
        return True, f"{', '.join(gpu.seen)} ({', '.join(parts)})", ""
    if not gpu.driver and not gpu.plugins:
        return True, "none: no NVIDIA driver runs here, and JAX has no CUDA plugin", ""
    if not gpu.driver:
        found = "not used: no NVIDIA driver runs here (no /proc/driver/nvidia, no answer of nvidia-smi)"
        return False, f"{found}; {', '.join(parts)}", "install the driver, or give the container its GPU"
    found = f"not used: {', '.join(parts)}"
    if not gpu.plugins:
        extra = "cuda13" if _major(gpu.driver) >= _DRIVER_OF_CUDA_13 else "cuda12"
        return False, f"{found}, but JAX has no CUDA plugin", f"pip install 'jaxdigits[{extra}]'"
    if "cuda" not in (platforms := gpu.settings.get("JAX_PLATFORMS", "cuda")) and "gpu" not in platforms:
        return False, f"{found}, but JAX_PLATFORMS is {platforms!r}", "unset JAX_PLATFORMS"
    if gpu.settings.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return False, f"{found}, but CUDA_VISIBLE_DEVICES hides it", "unset CUDA_VISIBLE_DEVICES"
    if any("cuda13" in name for name in gpu.plugins) and _major(gpu.driver) < _DRIVER_OF_CUDA_13:
        cure = "install jaxdigits[cuda12] instead, or a newer driver"
        return False, f"{found}: CUDA 13 needs a driver from {_DRIVER_OF_CUDA_13} on", cure
    if gpu.missing:
        cure = "reinstall jaxdigits with its extra cuda12 or cuda13"
        return False, f"{found}; CUDA libraries not found: {', '.join(gpu.missing)}", cure
    return False, f"{found}; JAX says: {gpu.refusal[:300]}", "see docs.jax.dev, Installation"


def _major(driver: str) -> int:
    found = re.match(r"\d+", driver)
    return int(found[0]) if found else 0
