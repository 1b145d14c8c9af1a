"""A training step taken apart, to be timed: by what is done, forward, gradients and so on, and by layer."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks import hlo
from benchmarks.operations import executed
from jaxdigits import dataset, device
from jaxdigits.compiling import network_of, portion_of
from jaxdigits.config import TrainConfig
from jaxdigits.executor import Executor
from jaxdigits.model import CNN
from jaxdigits.network import draw, shapes_of
from jaxdigits.network_forms import fastest
from jaxdigits.optimizer import make_optimizer
from jaxdigits.step import (
    Data,
    Part,
    Portion,
    TrainState,
    cross_entropy,
    divisions,
    epoch_order,
    init_state,
    make_update,
    summed,
)

__all__ = ["Parts", "driven", "layers", "parts", "training_data"]


class Parts(NamedTuple):
    """A step, taken apart."""

    timed: dict[str, Callable[[], None]]
    """The step and its parts, each as a function that does so many of them and waits."""
    executed: int
    """How many operations the products of the step's program take."""
    kernels: list[hlo.Kernel]
    """What a GPU launches for a step; empty on a CPU."""


def training_data(config: TrainConfig) -> Data:
    """MNIST's training images, in an order in which a configuration takes them."""
    split = dataset.load("mnist").train
    images, labels = jnp.asarray(split.images), jnp.asarray(split.labels.astype(np.int32))
    order = jnp.asarray(epoch_order(0, 0, len(labels), config.batch_size))
    return Data(images, labels, order, jax.random.key(1))


def driven(
    update: Callable[[TrainState, Data], TrainState], state: TrainState, data: Data, updates: int
) -> Callable[[], None]:
    """A function that makes so many updates, from where the last call ended, and waits."""
    any_count = jax.local_devices()[0].platform == "cpu"
    drive = Executor.of(update, state, data, any_count=any_count)
    holder = [drive(jax.device_put(state), data, updates)]

    def go() -> None:
        holder[0] = jax.block_until_ready(drive(holder[0], data, updates))

    return go


def parts(config: TrainConfig, updates: int) -> Parts:
    """The step and its parts, `updates` of them at once."""
    chosen = jax.local_devices()[0]
    platform, network = chosen.platform, network_of(config, 10, chosen)
    optimizer, data = make_optimizer(config, 10_000), training_data(config)
    n, batch = len(data.labels), config.batch_size
    still = dataclasses.replace(config, max_shift=0.0, max_scale=0.0, max_shear=0.0)

    def looped(update: Callable[[TrainState, Data], TrainState]) -> Callable[[], None]:
        return driven(update, init_state(network.init(0), optimizer), data, updates)

    portion = portion_of(network, platform)

    def loss(params: Any, part: Part) -> jax.Array:
        losses = cross_entropy(network.apply(params, part.images), part.labels, config.label_smoothing)
        return losses.sum() / batch

    def whole(function: Callable[[Any, Part], Any], state: TrainState, data: Data) -> Any:
        """A function of parameters and of the update's images, taken as an update takes it."""
        chosen = data.order[state.step % (n // batch)]
        part = Part(data.images[chosen], data.labels[chosen], jnp.ones(batch))
        of_part = functools.partial(function, state.params)
        return summed(of_part, part, portion) if portion else of_part(part)

    def forward(state: TrainState, data: Data) -> TrainState:
        value = whole(loss, state, data)
        return state._replace(step=state.step + 1, sums=state.sums._replace(loss=state.sums.loss + value))

    def gradient(state: TrainState, data: Data) -> TrainState:
        gradients = whole(jax.grad(loss), state, data)
        params = jax.tree.map(lambda p, g: p - 1e-3 * g, state.params, gradients)
        return state._replace(step=state.step + 1, params=params)

    step = make_update(network, optimizer, config, 10_000, portion)
    state = init_state(network.init(0), optimizer)
    kernels = []
    if platform != "cpu":
        program = Executor.of(step, state, data, any_count=False).compile(updates)
        kernels, _ = hlo.launched(program.as_text() or "", n)
    timed = {
        "forward": looped(forward),
        "forward and gradients": looped(gradient),
        "without augmentation": looped(make_update(network, optimizer, still, 10_000, portion)),
        "whole step": looped(step),
    }
    return Parts(timed, executed(step, state, data), kernels)


def layers(config: TrainConfig, turns: int) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
    """Each layer alone: functions that do so many `turns` of it and wait, forward and with its gradients.

    A turn has a batch, in the portions and pieces in which an update takes it.
    """
    chosen, batch = jax.local_devices()[0], config.batch_size
    portion = portion_of(network_of(config, 10, chosen), chosen.platform) or Portion(batch, batch)
    portions, pieces = divisions(batch, portion)
    turns *= portions
    form, dtype = fastest(chosen, config.channels, config.dtype)
    fixed = config.stem == "whitened"
    params = draw(shapes_of(config.channels, config.hidden, 10), 0)
    network = CNN(params, form=form, dtype=dtype, fixed_stem=fixed)
    x, found = jax.ShapeDtypeStruct((batch // portions // pieces, 28, 28, 1), dtype), {}
    x = jax.eval_shape(network.arrange, x)
    for index in range(len(config.channels)):

        def convolution(module: CNN, x: jax.Array, index: int = index) -> jax.Array:
            return module.convolve(index, x)

        # The first has no gradient towards its input; where it is kept as it is, nor has the second.
        wanted = () if fixed and not index else (0,) if index <= fixed else (0, 1)
        found[f"convolution {index + 1}"] = _alone(convolution, network, x, wanted, pieces, turns)
        x = jax.eval_shape(functools.partial(network.convolve, index), x)
    found["hidden"] = _alone(lambda module, x: module.hide(x), network, x, (0, 1), pieces, turns)
    x = jax.eval_shape(network.hide, x)
    found["output"] = _alone(lambda module, x: module.output(x), network, x, (0, 1), pieces, turns)
    return found


def _alone(
    layer: Callable[[CNN, jax.Array], jax.Array],
    network: CNN,
    like: jax.ShapeDtypeStruct,
    wanted: tuple[int, ...],
    pieces: int,
    turns: int,
) -> tuple[Callable[[], None], Callable[[], None]]:
    """A layer's timings, for so many pieces like this one side by side.

    It has gradients towards the arguments `wanted`: 0 the weights, 1 the images.
    """
    graph, weights = nnx.split(network)
    images = jnp.asarray(np.random.default_rng(1).normal(size=(4, pieces, *like.shape)), like.dtype)

    def apply(weights: Any, x: jax.Array) -> jax.Array:
        return layer(nnx.merge(graph, weights), x)

    backwards = jnp.ones_like(apply(weights, images[0, 0]))

    def gradients(weights: Any, x: jax.Array) -> Any:
        value, back = jax.vjp(apply, weights, x)
        return value, [back(backwards)[argument] for argument in wanted]

    def repeated(function: Callable[..., Any]) -> Callable[[], None]:
        def side_by_side(weights: Any, images: jax.Array) -> list[Any]:
            return [function(weights, piece) for piece in images]

        def loop(weights: Any, images: jax.Array) -> Any:
            first = side_by_side(weights, images[0])
            return jax.lax.fori_loop(1, turns, lambda i, _: side_by_side(weights, images[i % 4]), first)

        options = device.compiler_options(jax.local_devices()[0].platform)
        program = jax.jit(loop, compiler_options=options)
        jax.block_until_ready(program(weights, images))
        return lambda: jax.block_until_ready(program(weights, images))

    return repeated(apply), repeated(gradients)
