"""Compiled programs, kept from one training to the next of its kind.

JAX's own cache of compiled programs saves their compilation, but each program has to be traced and lowered
before it can be looked up there, for which Flax and Optax have to be imported: together a third of a short
training on two CPU cores. What is kept here needs none of that. It is found by all that a program could
depend on: the configuration, the shapes, the versions, the source of this library, JAX's settings, the
processor.

Only programs of a CPU or of an NVIDIA GPU are kept, where that is the one device that JAX has; nothing of
this was measured elsewhere. And only where JAX's cache is not in use, since XLA does not write out whole what
it has read from there.

A kept program is machine code. Like those of JAX's cache it lies in a folder of this user's, mode 0700: who
can write there can run code as its reader. Whatever is wrong with an entry, it is not there, and made anew.
"""

import contextlib
import functools
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
from jax.experimental import serialize_executable
from jax.sharding import Mesh

from jaxdigits import cache, child, processor
from jaxdigits.compiling import Compiled, Plan, batch_of, counts, one_for_all
from jaxdigits.config import TrainConfig, to_json
from jaxdigits.device import Device, nvidia_capability
from jaxdigits.errors import StorageError
from jaxdigits.evaluate import Evaluator
from jaxdigits.executor import Executor
from jaxdigits.network import shapes_of
from jaxdigits.step import Data, Sums, TrainState
from jaxdigits.storage import cache_root, private_folder, write_json

__all__ = ["FOLDER", "Kept", "installed"]

FOLDER = "programs"  # in the folder of the caches
_MOST = 32  # trainings whose programs are kept: a CPU's are some 0.6 MB each
_NAMES = "opt_state.json"  # the names in a training state that only Optax knows

# What of a configuration no program depends on.
_APART = {
    "preset", "seed", "dataset", "data_dir", "validation", "views", "run_dir", "plots", "resume",
    "checkpoint_seconds", "early_stop", "max_seconds", "smoke",
}  # fmt: skip


class Kept:
    """The place of the programs of one kind of training, with them or without.

    Args:
      config: of the training.
      plan: of the training.
      device: that it runs on.
    """

    def __init__(self, config: TrainConfig, plan: Plan, device: Device):
        self._sizes = (config.channels, config.hidden, plan.outputs)
        self._any_count, self._platform = one_for_all(device.platform, config), device.platform
        self._counts = counts(plan, self._any_count)
        about = {
            "config": {name: value for name, value in to_json(config).items() if name not in _APART},
            "plan": plan,
            "device": [device.platform, device.device_kind, child.cores(), _processor()],
            "backend": device.client.platform_version,
            "counts": self._counts,
            "versions": _versions(device.platform),
            "source": _source(),
            "settings": _settings(),
        }
        self._name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]

    @staticmethod
    def possible(device: Device) -> bool:
        """Whether programs for this device may be kept: for one, JAX has not been told to cache nothing."""
        wanted = jax.config.values["jax_enable_compilation_cache"]
        return bool(wanted) and _measured(device) and jax.device_count() == 1

    def load(self, mesh: Mesh, other: Callable[[int], jax.stages.Compiled]) -> Compiled | None:
        """The programs, ready to run on a mesh of one device; None if they are not there, or are damaged.

        Args:
          mesh: the device.
          other: compiles the loop for a number of updates that no whole training asks for, as a profile does.
        """
        try:
            folder = _folder() / self._name
            files = {name: content.tobytes() for name, content in cache.contents(folder)}
            names = json.loads(files.pop(_NAMES))
            trees = _trees(*self._sizes, names, self._counts)
            with ThreadPoolExecutor(max_workers=2) as pool:  # beside the first, which takes half of the time
                found = {
                    name: pool.submit(
                        serialize_executable.deserialize_and_load, files[name], *map(jax.tree.structure, tree)
                    )
                    for name, tree in trees.items()
                }
            found = {name: loading.result() for name, loading in found.items()}
            os.utime(folder)  # it is in use: others are removed before it
        except Exception:  # a stranger's bytes, read by another library: it raises what it likes
            return None

        def advance(count: int | None) -> jax.stages.Compiled:
            return found[_loop(count)] if count in self._counts else other(count or 1)

        executor = Executor(advance, any_count=self._any_count)
        evaluator = Evaluator(found["logits"], batch_of(self._platform)[0], mesh)
        return Compiled(found["begin"], found["rate"], executor, evaluator)

    def save(self, programs: Compiled) -> None:
        """Keeps programs for the next training, if they can be written.

        Args:
          programs: the programs, not yet run.
        """
        if jax.config.values["jax_compilation_cache_dir"]:
            return
        leaves = [0] * programs.begin.out_tree.num_leaves
        names = [*jax.tree.unflatten(programs.begin.out_tree, leaves).opt_state]
        each = {
            "begin": programs.begin,
            "rate": programs.rate,
            "logits": programs.evaluator.program,
            **{_loop(count): programs.executor.compile(count or 1) for count in self._counts},
        }

        def build(folder: Path) -> None:
            for name, program in each.items():
                (folder / name).write_bytes(serialize_executable.serialize(program)[0])
            write_json(folder / _NAMES, names)

        with contextlib.suppress(StorageError, OSError, ValueError, RuntimeError):  # a training needs it not
            folder = _folder()
            cache.install(folder / self._name, build)
            entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
            for entry in sorted(entries, key=lambda entry: entry.stat().st_mtime)[:-_MOST]:
                shutil.rmtree(entry, ignore_errors=True)


def _measured(device: Device) -> bool:
    """Whether this was measured on a device of the kind."""
    return device.platform == "cpu" or (device.platform == "gpu" and nvidia_capability(device) is not None)


def _folder() -> Path:
    """Where all are kept. Raises `StorageError` if that is nowhere, or others may write to it."""
    return private_folder(private_folder(cache_root()) / FOLDER)


def _loop(count: int | None) -> str:
    """The name of the program that makes so many updates, or any number."""
    return "advance" if count is None else f"advance-{count}"


def _trees(
    channels: tuple[int, ...], hidden: int, outputs: int, names: list[str], counts: Sequence[int | None]
) -> dict[str, Any]:
    """What each program takes, and what it gives: trees, whose leaves do not matter."""
    params = shapes_of(channels, hidden, outputs)
    state = TrainState(0, params, dict.fromkeys(names, 0), Sums(0, 0, 0))  # pyright: ignore
    data = Data(0, 0, 0, 0)  # pyright: ignore[reportArgumentType]
    return {
        **{_loop(each): (((state, data), {"count": 0} if each is None else {}), state) for each in counts},
        "begin": (((params,), {}), state),
        "rate": (((0,), {}), 0),
        "logits": (((params, 0), {}), 0),
    }


def _settings() -> dict[str, str]:
    """What JAX and XLA are set to; XLA asks the environment itself.

    JAX's own cache makes no difference, nor does what led to the device.
    """
    found = {name: str(value) for name, value in jax.config.values.items()}
    found |= {name: value for name, value in os.environ.items() if name.startswith(("XLA_", "JAX_"))}
    apart = ("cache", "platforms", "default_device")
    return {name: value for name, value in found.items() if not any(word in name.lower() for word in apart)}


def _versions(platform_of_device: str) -> dict[str, str]:
    found = {"python": platform.python_version()}
    names = ["jax", "jaxlib", "flax", "optax", "numpy"]
    if platform_of_device == "gpu":
        names += ["jax-cuda12-plugin", "jax-cuda13-plugin", "jax-cuda12-pjrt", "jax-cuda13-pjrt"]
        names += ["nvidia-cublas-cu12", "nvidia-cublas", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13"]
    return found | {name: there for name in names if (there := installed(name))}


@functools.cache
def installed(package: str) -> str | None:
    """The version of a package that is installed; looked up once, which takes a millisecond."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _source() -> str:
    """The SHA-256 of all of this library's source."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _processor() -> list[str]:
    """What is known of the kind of processor: programs are compiled for what it can do."""
    known = ("model", "vendor", "flags", "features", "cpu ")
    steady = {
        name: value
        for name, value in processor.described().items()
        if name.lower().startswith(known) and "mhz" not in name.lower()
    }
    return [platform.system(), platform.machine(), platform.processor(), *map(" ".join, steady.items())]
