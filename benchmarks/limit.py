"""How near the training step comes to the machine's own matrix-product rate, and where the rest goes.

Claim: a share of the float32 rate of a 2048x2048 product, which is measured in the same run, in turn with
the step; so is the rate in bfloat16, where the step multiplies in that. The step's floating-point operations
are those of the network's layers by their definition, counted from its sizes, products only: forward, both
gradients, and no gradient towards the images (the model FLOPs utilization of Chowdhery et al. 2022, "PaLM").
A step that gets by with fewer, as Winograd's convolutions do, has a larger share for being faster; `executed`
is the share by the products that the step's program really has, those of transforms and of augmentation among
them. The breakdown takes the step apart: forward alone, with gradients, with the optimizer, and with
augmentation. It is taken apart by layer, too: each alone, forward, and forward with those of its gradients
that the step computes, from images of its own that wait in memory.
On a GPU there are two more: its memory's bandwidth, measured in turn with the rest, beside the bytes that an
update moves, and how many kernels it launches, both by the text of the compiled program (`hlo`).

    python -m benchmarks.limit [--rounds 10] [--presets fast standard]
"""

import dataclasses
import functools
import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx
from jax.interpreters.partial_eval import dce_jaxpr

from benchmarks import hlo, protocol
from jaxdigits import dataset, device
from jaxdigits.compiling import portion_of
from jaxdigits.config import PRESETS, Preset, TrainConfig
from jaxdigits.executor import Executor
from jaxdigits.model import CNN, build, fastest
from jaxdigits.network import draw, shapes_of
from jaxdigits.optimizer import make_optimizer
from jaxdigits.step import (
    Data,
    Part,
    TrainState,
    Update,
    cross_entropy,
    epoch_order,
    init_state,
    make_update,
    summed,
)


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Measures the compiled step against the machine's matrix-product rate."""

    rounds: int = 10
    """How often each part is timed; the parts take turns."""
    updates: int = 60
    """Updates in one timing."""
    presets: tuple[Preset, ...] = ("fast", "standard")
    """The presets to measure."""


def operations(config: TrainConfig, classes: int = 10) -> dict[str, int]:
    """Floating-point operations of the products of one image, by layer: forward only."""
    side, inputs, layers = 14, 4, {}
    for index, outputs in enumerate(config.channels):
        side -= 2
        layers[f"convolution {index + 1}"] = 2 * side * side * 9 * inputs * outputs
        side = side // 2 if index == 1 else side
        inputs = outputs
    layers["hidden"] = 2 * side * side * inputs * config.hidden
    layers["output"] = 2 * config.hidden * classes
    return layers


def training_operations(config: TrainConfig) -> int:
    """Those of one image in an update.

    The first layer has no gradient towards its input; if it is kept as it is, it has none at all, and the
    second has none towards its input either.
    """
    layers = operations(config)
    first, second = layers["convolution 1"], layers["convolution 2"]
    return 3 * sum(layers.values()) - (2 * first + second if config.stem == "whitened" else first)


def executed(step: Update, state: TrainState, data: Data) -> int:
    """Floating-point operations of the products of a step's program, of those whose result is used."""
    program = jax.make_jaxpr(step)(state, data).jaxpr
    return _products(dce_jaxpr(program, [True] * len(program.outvars))[0])


def _products(program: Any) -> int:
    """Those in a Jaxpr, however deep they lie."""
    total = 0
    for equation in program.eqns:
        if equation.primitive.name == "dot_general":
            ((contracted, _), _), left = equation.params["dimension_numbers"], equation.invars[0].aval
            sums = math.prod(left.shape[axis] for axis in contracted)
            total += 2 * sums * math.prod(equation.outvars[0].aval.shape)
        inner = jax.tree.leaves(tuple(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns"))
        times = equation.params.get("length", 1)  # of a scan
        total += times * sum(_products(value) for value in inner if hasattr(value, "eqns"))
    return total


class Parts(NamedTuple):
    """A step, taken apart."""

    timed: dict[str, Callable[[], None]]
    """The step and its parts, each as a function that does so many of them and waits."""
    executed: int
    """How many operations the products of the step's program take."""
    kernels: list[hlo.Kernel]
    """What a GPU launches for a step; empty on a CPU."""


def parts(config: TrainConfig, updates: int) -> Parts:
    """The step and its parts, `updates` of them at once."""
    platform = jax.local_devices()[0].platform
    form, dtype = fastest(platform, config.channels, config.dtype)
    network = build(
        config.channels,
        config.hidden,
        10,
        form=form,
        dtype=dtype,
        fixed_stem=config.stem == "whitened",
    )
    optimizer = make_optimizer(config, 10_000)
    split = dataset.load("mnist").train
    n, batch = len(split.labels), config.batch_size
    images, labels = jnp.asarray(split.images), jnp.asarray(split.labels.astype(np.int32))
    data = Data(images, labels, jnp.asarray(epoch_order(0, 0, n, batch)), jax.random.key(1))
    still = dataclasses.replace(config, max_shift=0.0, max_scale=0.0, max_shear=0.0)

    def executor(update: Callable[[TrainState, Data], TrainState], state: TrainState) -> Executor:
        return Executor.of(update, state, data, any_count=platform == "cpu")

    def looped(update: Callable[[TrainState, Data], TrainState]) -> Callable[[], None]:
        state = jax.jit(lambda params: init_state(params, optimizer))(network.init(0))
        drive = executor(update, state)
        holder = [drive(state, data, updates)]

        def go() -> None:
            holder[0] = jax.block_until_ready(drive(holder[0], data, updates))

        return go

    portion = portion_of(platform, 1)

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
        kernels, _ = hlo.launched(executor(step, state).compile(updates).as_text() or "", n)
    timed = {
        "forward": looped(forward),
        "forward and gradients": looped(gradient),
        "without augmentation": looped(make_update(network, optimizer, still, 10_000, portion)),
        "whole step": looped(step),
    }
    return Parts(timed, executed(step, state, data), kernels)


def layers(config: TrainConfig) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
    """Each layer alone: functions that do `_LAYER_TURNS` of it and wait, forward and with its gradients."""
    batch = config.batch_size
    form, dtype = fastest(jax.local_devices()[0].platform, config.channels, config.dtype)
    fixed = config.stem == "whitened"
    params = draw(shapes_of(config.channels, config.hidden, 10), 0)
    network = CNN(params, form=form, dtype=dtype, fixed_stem=fixed)
    x, found = jax.ShapeDtypeStruct((batch, 28, 28, 1), dtype), {}
    x = jax.eval_shape(network.arrange, x)
    for index in range(len(config.channels)):

        def convolution(module: CNN, x: jax.Array, index: int = index) -> jax.Array:
            return module.convolve(index, x)

        # The first has no gradient towards its input; where it is kept as it is, nor has the second.
        wanted = () if fixed and not index else (0,) if index <= fixed else (0, 1)
        found[f"convolution {index + 1}"] = _alone(convolution, network, x, wanted)
        x = jax.eval_shape(functools.partial(network.convolve, index), x)
    found["hidden"] = _alone(lambda module, x: module.hide(x), network, x, (0, 1))
    x = jax.eval_shape(network.hide, x)
    found["output"] = _alone(lambda module, x: module.output(x), network, x, (0, 1))
    return found


_LAYER_TURNS = 20  # of a layer in one timing: some milliseconds, beside which a call is nothing


def _alone(
    layer: Callable[[CNN, jax.Array], jax.Array],
    network: CNN,
    like: jax.ShapeDtypeStruct,
    wanted: tuple[int, ...],
) -> tuple[Callable[[], None], Callable[[], None]]:
    """A layer's timings; it has gradients towards the arguments `wanted`: 0 the weights, 1 the images."""
    graph, weights = nnx.split(network)
    images = jnp.asarray(np.random.default_rng(1).normal(size=(4, *like.shape)), like.dtype)

    def apply(weights: Any, x: jax.Array) -> jax.Array:
        return layer(nnx.merge(graph, weights), x)

    backwards = jnp.ones_like(apply(weights, images[0]))

    def gradients(weights: Any, x: jax.Array) -> Any:
        value, back = jax.vjp(apply, weights, x)
        return value, [back(backwards)[argument] for argument in wanted]

    def repeated(function: Callable[..., Any]) -> Callable[[], None]:
        def turns(weights: Any, images: jax.Array) -> Any:
            first = function(weights, images[0])
            return jax.lax.fori_loop(1, _LAYER_TURNS, lambda i, _: function(weights, images[i % 4]), first)

        options = device.compiler_options(jax.local_devices()[0].platform)
        program = jax.jit(turns, compiler_options=options)
        jax.block_until_ready(program(weights, images))
        return lambda: jax.block_until_ready(program(weights, images))

    return repeated(apply), repeated(gradients)


def product(dtype: str, side: int = 2048) -> Callable[[], None]:
    """A matrix product of 2 * side**3 operations, of factors in this number format to float32."""
    matrix = jnp.asarray(np.random.default_rng(0).normal(size=(side, side)), dtype)
    multiply = jax.jit(functools.partial(jnp.matmul, preferred_element_type=np.float32))
    multiply(matrix, matrix).block_until_ready()

    def go() -> None:
        multiply(matrix, matrix).block_until_ready()

    return go


def copying(mebibytes: int = 1024) -> Callable[[], None]:
    """Reads so much of the device's memory, and writes as much."""
    values = jnp.zeros((mebibytes, 2**18), np.float32)
    copy = jax.jit(lambda values: values + 1)
    copy(values).block_until_ready()

    def go() -> None:
        copy(values).block_until_ready()

    return go


def on_gpu(kernels: list[hlo.Kernel], step: list[float], copies: list[float]) -> dict[str, Any]:
    """What a GPU's step launches and moves, beside its memory's bandwidth.

    Args:
      kernels: of a step.
      step: its seconds.
      copies: those of `copying` a gibibyte.
    """
    moved, bandwidth = sum(each.bytes for each in kernels), [2 * 2**30 / seconds for seconds in copies]
    return {
        "kernels": dict(Counter(each.kind for each in kernels)),
        "bytes_per_update": moved,
        "bandwidth": protocol.mean(bandwidth),
        "share_of_bandwidth": protocol.ratio([moved / seconds for seconds in step], bandwidth),
    }


def timed(function: Callable[[], None]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def main(arguments: Arguments) -> None:
    """Measures, prints and saves."""
    device.select("auto")
    device.enable_compilation_cache()
    platform = jax.local_devices()[0].platform
    runs, summary = [], {}
    for preset in arguments.presets:
        config = PRESETS[preset]
        _, dtype = fastest(platform, config.channels, config.dtype)
        products = {name: product(name) for name in dict.fromkeys(("float32", dtype))}
        contestants, operations_executed, kernels = parts(config, arguments.updates)
        others = products if platform == "cpu" else products | {"copy": copying()}
        single = layers(config)
        seconds: dict[str, list[float]] = {name: [] for name in (*others, *contestants)}
        by_layer: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in single}
        for _ in range(arguments.rounds):
            for name, other in others.items():
                seconds[name].append(timed(other))
            for name, contestant in contestants.items():
                seconds[name].append(timed(contestant) / arguments.updates)
            for name, ways in single.items():
                for times, way in zip(by_layer[name], ways, strict=True):
                    times.append(timed(way) / _LAYER_TURNS)
        runs.append({"preset": preset, "seconds": seconds, "layers": by_layer})
        rates = {name: [2 * 2048**3 / s / 1e9 for s in seconds[name]] for name in products}
        done = training_operations(config) * config.batch_size
        step = [done / s / 1e9 for s in seconds["whole step"]]
        summary[preset] = {
            "batch_size": config.batch_size,
            "operations_per_step": done,
            "operations_executed": operations_executed,
            "dtype": dtype,
            "product_gflops": protocol.mean(rates["float32"]),
            "product_gflops_in_dtype": protocol.mean(rates[dtype]),
            "step_gflops": protocol.mean(step),
            "share": protocol.ratio(step, rates["float32"]),
            "share_executed": protocol.ratio(step, rates["float32"]) * operations_executed / done,
            "share_in_dtype": protocol.ratio(step, rates[dtype]),
            "milliseconds": {name: protocol.mean([1e3 * s for s in seconds[name]]) for name in contestants},
            "layers": operations(config),
            "layer_milliseconds": {
                name: [protocol.mean([1e3 * s for s in times]) for times in by_layer[name]]
                for name in by_layer
            },
        }
        if platform != "cpu":
            summary[preset] |= on_gpu(kernels, seconds["whole step"], seconds["copy"])
        print(
            f"{preset}: {protocol.mean(step)['mean']:.0f} GFLOP/s in {dtype}, where a float32 product has "
            f"{protocol.mean(rates['float32'])['mean']:.0f}: {summary[preset]['share']:.0%} "
            f"({summary[preset]['share_executed']:.0%} executed); "
            "milliseconds: "
            + ", ".join(
                f"{name} {value['mean']:.2f}" for name, value in summary[preset]["milliseconds"].items()
            )
        )
    print(protocol.save("limit", runs, arguments.rounds, summary))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
