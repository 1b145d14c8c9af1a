"""`jaxdigits doctor`: is all there that a training and a prediction need, and does it work?

Each check is a function that looks at one thing and returns a `Finding`; what goes wrong in one is a
finding too, and stops no other. Nothing is written or changed. Why a GPU is not used is `gpu`'s to tell, and
what there is of cores, memory and folders `machine`'s.
"""

import dataclasses
import json
import math
import os
import platform
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from jaxdigits import machine
from jaxdigits.errors import DataError, DeviceError, DivergedError, JaxdigitsError, StorageError, in_one_line
from jaxdigits.machine import State

__all__ = ["CHECKS", "Finding", "exit_status", "findings", "report"]

_PACKAGED = Path(__file__).with_name("mnist")
_TOGETHER = ("jaxdigits", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")  # must fit
_STEPS = 10  # updates of the self-test


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a check has found.

    Attributes:
      name: of the check.
      state: `ok`; `warn`: works, but may not be what is wanted; `bad`: does not work.
      found: what is there, in words.
      cure: what to do about it; "" where there is nothing to be done.
      exit_status: of the class of what is bad, as in `errors`; else 0.
    """

    name: str
    state: State
    found: str
    cure: str = ""
    exit_status: int = 0


Check = Callable[[], tuple[State, str, str]]


# Versions.


def check_python() -> tuple[State, str, str]:
    """Whether this Python is one that the package is for."""
    found = f"{platform.python_version()} at {sys.executable}"
    needed = tuple(map(int, _project()["requires-python"].removeprefix(">=").split(".")))
    if sys.version_info[: len(needed)] < needed:
        return "bad", found, f"install Python {'.'.join(map(str, needed))} or newer"
    return "ok", found, ""


def _project() -> dict[str, Any]:
    """`requires-python` and `dependencies`, from the installed package, or from a clone that is not."""
    clone = Path(__file__).resolve().parents[1] / "pyproject.toml"
    if clone.is_file():
        return tomllib.loads(clone.read_text("utf-8"))["project"]
    about = metadata.metadata("jaxdigits")
    return {"requires-python": about["Requires-Python"], "dependencies": metadata.requires("jaxdigits")}


def check_packages() -> tuple[State, str, str]:
    """Whether all packages are there, new enough, and of versions that fit each other."""
    wrong = [*misfits(_project()["dependencies"], "jaxdigits", set())]
    versions = {name: _version(name) for name in _TOGETHER[1:]}
    for name in (name for name, version in versions.items() if version):
        wrong += misfits(metadata.requires(name) or (), name, {*_TOGETHER})
    if wrong:
        return (
            "bad",
            "; ".join(dict.fromkeys(wrong)),
            "pip install --upgrade jaxdigits, in a fresh environment",
        )
    return "ok", ", ".join(f"{name} {version}" for name, version in versions.items() if version), ""


def misfits(requirements: Sequence[str], of: str, among: set[str]) -> Iterator[str]:
    """The requirements of a package that what is installed does not meet, in words.

    Args:
      requirements: as in a package's metadata: `jax>=0.8.1`.
      of: the package.
      among: the packages to look at; if empty, all that it cannot do without. JAX's CUDA plugins, which it
        names as extras, are looked at where they are installed.
    """
    from packaging.requirements import Requirement

    for requirement in map(Requirement, requirements):
        plugin = requirement.name.startswith("jax-cuda")
        extras = ("cuda12", "cuda13") if plugin else ("",)
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in extras):
            continue
        if among and requirement.name not in among and not plugin:
            continue
        version = _version(requirement.name)
        if version is None:
            if not plugin:
                yield f"{of} needs {requirement.name}, which is not installed"
        elif not requirement.specifier.contains(version, prereleases=True):
            yield f"{of} needs {requirement.name}{requirement.specifier}, found {version}"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


# The machine.


def check_device() -> tuple[State, str, str]:
    """Whether JAX starts, and on what."""
    import jax

    from jaxdigits import device

    chosen = device.select("auto")
    names = [name for name in ("JAX_PLATFORMS", "XLA_FLAGS") if os.environ.get(name)]
    settings = "".join(f"; {name}={os.environ[name]}" for name in names)
    return "ok", f"{device.describe(chosen)}, of {len(jax.devices())} in all{settings}", ""


def check_gpu() -> tuple[State, str, str]:
    """Whether a GPU is used, and if not, why."""
    from jaxdigits import gpu

    good, found, cure = gpu.explain(gpu.look())
    return "ok" if good else "warn", found, cure


# Does it work?


def check_data() -> tuple[State, str, str]:
    """Whether the packaged images are there and whole."""
    from jaxdigits import idx

    pairs = idx.read_folder("mnist", _PACKAGED, 10)
    return "ok", f"MNIST, {' and '.join(f'{len(labels):,}' for _, labels in pairs)} images, whole", ""


def check_training() -> tuple[State, str, str]:
    """Ten updates on packaged images: the loss has to be finite and to fall."""
    losses = training_losses(_STEPS)
    found = f"{_STEPS} updates, loss {losses[0]:.2f} to {losses[-1]:.2f}"
    if all(map(math.isfinite, losses)) and losses[-1] < losses[0]:
        return "ok", found, ""
    return "bad", f"{found}: not finite, or not falling", "try --device cpu; reinstall jax and jaxlib"


def training_losses(steps: int) -> list[float]:
    """The mean losses, in nats, of the first updates of the preset `fast`, on packaged images."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxdigits import device, idx, step
    from jaxdigits.compiling import network_of
    from jaxdigits.optimizer import make_optimizer
    from jaxdigits.presets import resolve

    (_, (images, labels)), config = idx.read_folder("mnist", _PACKAGED, 10), resolve("fast", stem="random")
    network = network_of(config, 10, device.select("auto"))
    optimizer = make_optimizer(config, steps)
    order = jnp.arange(steps * config.batch_size, dtype=jnp.int32) % len(labels)
    order = order.reshape(steps, config.batch_size)
    data = step.Data(jnp.asarray(images), jnp.asarray(labels, np.int32), order, jax.random.key(0))
    update = jax.jit(step.make_update(network, optimizer, config, steps))
    state, losses = step.init_state(network.init(0), optimizer), []
    for _ in range(steps):
        state = update(state._replace(sums=step.zero_sums()), data)
        losses.append(float(state.sums.loss) / int(state.sums.images))
    return losses


def check_prediction() -> tuple[State, str, str]:
    """One prediction of the packaged model: the first test image is a seven."""
    from jaxdigits import idx, recognizer

    _, (images, labels) = idx.read_folder("mnist", _PACKAGED, 10)
    odds = recognizer.load().probabilities(images[:1])[0]
    found = f"a {labels[0]} is read as {odds.argmax()} ({odds.max():.1%}) by the packaged model"
    if odds.argmax() == labels[0] and math.isfinite(odds.sum()):
        return "ok", found, ""
    return "bad", found, "try --device cpu; reinstall jax and jaxlib"


CHECKS: tuple[tuple[str, Check, type[JaxdigitsError]], ...] = (
    ("Python", check_python, DeviceError),
    ("packages", check_packages, DeviceError),
    ("device", check_device, DeviceError),
    ("GPU", check_gpu, DeviceError),
    ("cores", machine.check_cores, DeviceError),
    ("memory", machine.check_memory, DeviceError),
    ("disk", machine.check_disk, StorageError),
    ("data cache", machine.check_data_cache, StorageError),
    ("compile cache", machine.check_compile_cache, StorageError),
    ("data", check_data, DataError),
    ("training", check_training, DivergedError),
    ("prediction", check_prediction, DeviceError),
)
"""The checks, in order, and the class of what each would find bad."""


def findings() -> Iterator[Finding]:
    """Runs all checks, one after the other."""
    for name, check, error in CHECKS:
        yield examined(name, check, error)


def examined(name: str, check: Check, kind: type[JaxdigitsError]) -> Finding:
    """Runs one check; whatever it raises is bad, and nothing more."""
    try:
        state, found, cure = check()
    except JaxdigitsError as error:
        return Finding(name, "bad", in_one_line(error), "", type(error).exit_status)
    except Exception as error:  # a broken installation raises anything
        return Finding(
            name, "bad", f"{type(error).__name__}: {in_one_line(error)[:300]}", "", kind.exit_status
        )
    return Finding(name, state, in_one_line(found), cure, kind.exit_status if state == "bad" else 0)


def exit_status(found: Sequence[Finding]) -> int:
    """0 where nothing is bad, else the status of the first that is."""
    return next((one.exit_status for one in found if one.state == "bad"), 0)


def report(*, as_json: bool = False) -> int:
    """Runs all checks, prints what they find, and returns the exit status."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    if as_json:
        found = list(findings())
        status = exit_status(found)
        answer = {"exit_status": status, "checks": [dataclasses.asdict(one) for one in found]}
        print(json.dumps(answer, indent=2))
        return status
    console = Console(highlight=False)
    console.width = min(console.width, 80)
    colours, found = {"ok": "green", "warn": "yellow", "bad": "bold red"}, []
    with console.status("") as line:
        for one in findings():
            found.append(one)
            row = Table.grid(padding=(0, 2))
            row.add_column(width=4)
            row.add_column(width=max(len(name) for name, _, _ in CHECKS))
            row.add_column(overflow="fold")
            text = escape(one.found) + (f"\n[dim]to do:[/dim] {escape(one.cure)}" if one.cure else "")
            row.add_row(f"[{colours[one.state]}]{one.state}[/]", one.name, text)
            console.print(row)
            line.update(f"after {one.name} ...")
    counts = {state: sum(one.state == state for one in found) for state in ("bad", "warn")}
    if counts["bad"]:
        console.print(f"{counts['bad']} of {len(found)} checks are bad.")
    else:
        console.print("All is well." if not counts["warn"] else f"All works; {counts['warn']} to look at.")
    return exit_status(found)
