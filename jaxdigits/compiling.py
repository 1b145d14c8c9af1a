"""Compiles the programs of a training, side by side, from shapes alone: none waits for another's result."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, cast

import jax
import numpy as np
from jax.sharding import Mesh

from jaxdigits import mesh as meshes
from jaxdigits.config import TrainConfig
from jaxdigits.device import Device
from jaxdigits.evaluate import Evaluator
from jaxdigits.executor import Executor
from jaxdigits.network import Network
from jaxdigits.step import Data, Portion, TrainState, init_state, make_update, order_shape, wrap_key

__all__ = [
    "Compiled",
    "Plan",
    "batch_of",
    "compile_evaluator",
    "compile_programs",
    "counts",
    "data_shapes",
    "make_executor",
    "network_of",
    "one_for_all",
    "portion_of",
]

_NARROW = 32  # filters of the second convolution, with which twice the images stay in a CPU's cache


class Plan(NamedTuple):
    """How large a training is.

    Attributes:
      images: that are trained on in an epoch.
      updates_per_epoch: in a whole epoch.
      updates: in the whole training.
      outputs: of the network.
    """

    images: int
    updates_per_epoch: int
    updates: int
    outputs: int

    @classmethod
    def of(cls, config: TrainConfig, images: int, classes: int) -> "Plan":
        """That of a training on so many images of so many classes, and of none of them if it is to."""
        each = math.ceil(images / config.batch_size)
        return cls(images, each, config.updates(each), classes + (config.non_digits > 0))


class Compiled(NamedTuple):
    """The programs of a training.

    Attributes:
      begin: fresh parameters to the state before the first update.
      rate: the number of an update, from 0, to its learning rate.
      executor: makes updates.
      evaluator: measures parameters.
    """

    begin: jax.stages.Compiled
    rate: jax.stages.Compiled
    executor: Executor
    evaluator: Evaluator


def compile_programs(config: TrainConfig, plan: Plan, mesh: Mesh) -> Compiled:
    """Compiles them.

    Args:
      config: what to do.
      plan: of the training.
      mesh: the devices.
    """
    from jaxdigits.optimizer import make_optimizer, make_schedule

    network, optimizer = _network(config, plan, mesh, learning=False), make_optimizer(config, plan.updates)
    everywhere, number = meshes.replicated(mesh), jax.ShapeDtypeStruct((), np.int32)
    begin = jax.jit(lambda params: init_state(params, optimizer), out_shardings=everywhere)
    rate = jax.jit(make_schedule(config, plan.updates))
    executor = make_executor(config, plan, mesh)
    with ThreadPoolExecutor(max_workers=3) as pool:
        # One after another: a GPU's compiler tries kernels, and several of it get in each other's way.
        advancing = pool.submit(
            lambda: [executor.compile(each or 1) for each in counts(plan, executor.any_count)]
        )
        evaluator = pool.submit(compile_evaluator, network, mesh)
        rating = pool.submit(lambda: rate.lower(number).compile())
        beginning = pool.submit(lambda: begin.lower(network.shapes).compile())
        advancing.result()
        return Compiled(beginning.result(), rating.result(), executor, evaluator.result())


def make_executor(config: TrainConfig, plan: Plan, mesh: Mesh) -> Executor:
    """What makes updates, not yet compiled; arguments as for `compile_programs`."""
    from jaxdigits.optimizer import make_optimizer

    network, optimizer = _network(config, plan, mesh, learning=True), make_optimizer(config, plan.updates)
    platform, shares = _platform(mesh), mesh.shape["data"]
    state = jax.eval_shape(lambda params: init_state(params, optimizer), network.shapes)
    state = cast(TrainState, meshes.shapes_on(meshes.replicated(mesh), state))
    update = make_update(network, optimizer, config, plan.updates, portion_of(network, platform, shares))
    data = data_shapes(config, plan, mesh)
    return Executor.of(update, state, data, any_count=one_for_all(platform, config))


def data_shapes(config: TrainConfig, plan: Plan, mesh: Mesh) -> Data:
    """The shapes of what an update reads, as it lies on the devices; arguments as for `compile_programs`."""
    images = jax.ShapeDtypeStruct((plan.images, 28, 28, 1), np.uint8)
    labels = jax.ShapeDtypeStruct((plan.images,), np.int32)
    order = jax.ShapeDtypeStruct(order_shape(plan.images, config.batch_size, mesh.shape["data"]), np.int32)
    key = jax.eval_shape(wrap_key, jax.ShapeDtypeStruct((2,), np.uint32))
    images, labels, key = meshes.shapes_on(meshes.replicated(mesh), (images, labels, key))
    return Data(images, labels, meshes.shapes_on(meshes.along(mesh, None, "data"), order), key)


def network_of(
    config: TrainConfig, outputs: int, device: Device, devices: int = 1, *, learning: bool = True
) -> Network:
    """The network that a configuration asks for, in the form in which it runs best.

    Args:
      config: of the training.
      outputs: of the network.
      device: the device, or one of several alike.
      devices: how many share a batch.
      learning: whether it is to be trained, or only to be read with.
    """
    from jaxdigits.model import build
    from jaxdigits.network_forms import fastest

    form, dtype = fastest(device, config.channels, config.dtype, devices, learning=learning)
    fixed = config.stem == "whitened"
    return build(config.channels, config.hidden, outputs, form=form, dtype=dtype, fixed_stem=fixed)


def _network(config: TrainConfig, plan: Plan, mesh: Mesh, *, learning: bool) -> Network:
    return network_of(config, plan.outputs, mesh.devices.flat[0], mesh.shape["data"], learning=learning)


def _platform(mesh: Mesh) -> str:
    return mesh.devices.flat[0].platform


def one_for_all(platform: str, config: TrainConfig) -> bool:
    """Whether one program makes any number of updates: see `executor`."""
    return platform == "cpu" or config.max_seconds is not None


def counts(plan: Plan, any_count: bool) -> Sequence[int | None]:
    """How many updates the calls of an uninterrupted training make; None, where one program makes any number.

    >>> counts(Plan(images=60_000, updates_per_epoch=469, updates=1000, outputs=10), any_count=False)
    [469, 62]
    """
    if any_count:
        return [None]
    epochs, left = divmod(plan.updates, plan.updates_per_epoch)
    return [plan.updates_per_epoch] * (epochs > 0) + [left] * (left > 0)


def portion_of(network: Network, platform: str, devices: int = 1) -> Portion | None:
    """How many images have their gradients taken together, for `make_update`.

    What these need is to stay in a CPU's cache, where bfloat16 takes half the space: pieces of 128 take 4 to
    8% off an update of `standard` in bfloat16, on two cores of an EPYC or a Xeon, and a tenth off one of
    `fast` in float32. In float32 `standard` has pieces of 64: on a Xeon, four side by side need 3%
    (jax 0.10) to 12% (0.12) less than two and two, and up to 7% less than two of 128; on an EPYC, between 3%
    more and 9% less than either.
    """
    if platform != "cpu":
        return None
    filters = network.shapes["convs"][1]["kernel"].shape[-1]
    piece = 128 if filters <= _NARROW or network.dtype == "bfloat16" else 64
    return Portion(256 * devices, piece * devices)


def compile_evaluator(network: Network, mesh: Mesh) -> Evaluator:
    """What measures a network on some devices."""
    return Evaluator.compile(network, network.shapes, *batch_of(_platform(mesh)), mesh)


def batch_of(platform: str) -> tuple[int, int]:
    """How many images a call of an evaluator takes, and how many of them go through the network together.

    On a CPU a call costs little, and small ones leave little of the last one empty: of the 2,500 images that
    are held out by default, two calls beside each other 60.
    """
    return (1280, 64) if platform == "cpu" else (4096, 4096)
