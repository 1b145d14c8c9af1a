"""How near the training step comes to the machine's own matrix-product rate, and where the rest goes.

Claim: a share of the float32 rate of a 2048x2048 product (of an accelerator, 8192x8192), which is measured in
the same run, in turn with the step; so is the rate in bfloat16, where the step multiplies in that. A GPU's
float32 products are those of JAX's default precision: on NVIDIA's, TF32 in their tensor cores. The step's
floating-point operations are those of the network's layers by their definition, counted from its sizes,
products only: forward, both gradients, and no gradient towards the images (the model FLOPs utilization of
Chowdhery et al. 2022, "PaLM").
A step that gets by with fewer, as Winograd's convolutions do, has a larger share for being faster; `executed`
is the share by the products that the step's program really has, those of transforms and of augmentation among
them. The breakdown takes the step apart: forward alone, with gradients, with the optimizer, and with
augmentation. It is taken apart by layer, too: each alone, in the step's own pieces of a batch, forward, and
forward with those of its gradients that the step computes, from images of its own that wait in memory.
On a GPU more is done in one call, which takes some 0.3 ms before anything begins, and there are two more
figures: its memory's bandwidth, measured in turn with the rest, beside the bytes that an
update moves, and how many kernels it launches, both by the text of the compiled program (`hlo`).

    python -m benchmarks.limit [--rounds 10] [--presets fast standard]
"""

import dataclasses
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks import hlo, protocol
from benchmarks.flags import Count
from benchmarks.operations import operations, training_operations
from benchmarks.step_parts import layers, parts
from jaxdigits import device
from jaxdigits.config import Preset
from jaxdigits.network_forms import fastest
from jaxdigits.presets import PRESETS


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Measures the compiled step against the machine's matrix-product rate."""

    rounds: Count = 10
    """How often each part is timed; the parts take turns."""
    updates: Count | None = None
    """Updates in one timing; by default 60, on an accelerator 450."""
    presets: tuple[Preset, ...] = ("fast", "standard")
    """The presets to measure."""


class Sizes(NamedTuple):
    """How much is done in one timing, for it to be long beside a call."""

    side: int
    """Of the matrices that are multiplied."""
    products: int
    """Of them, one after the other."""
    layer_turns: int
    """Of a layer alone."""
    updates: int
    """Of a step, or of a part of it."""

    @property
    def operations(self) -> int:
        """Those of the products."""
        return 2 * self.side**3 * self.products


ON_CPU, ON_ACCELERATOR = Sizes(2048, 1, 20, 60), Sizes(8192, 8, 500, 450)
_COPIED, _TIMES = 1024, 8  # mebibytes of memory, and how often they are copied in one timing


def product(dtype: str, sizes: Sizes) -> Callable[[], None]:
    """Matrix products, of factors in this number format."""
    scale = sizes.side**-0.5  # for the products to stay as large as their factors
    matrix = (scale * np.random.default_rng(0).normal(size=(sizes.side, sizes.side))).astype(np.float32)
    matrix, program = jnp.asarray(matrix, dtype), jax.jit(multiplied, static_argnames="times")
    program(matrix, times=sizes.products).block_until_ready()

    def go() -> None:
        program(matrix, times=sizes.products).block_until_ready()

    return go


def multiplied(matrix: jax.Array, times: int) -> jax.Array:
    """A matrix, so many times multiplied by itself, to float32."""

    def once(_: int, x: jax.Array) -> jax.Array:
        return jnp.matmul(x.astype(matrix.dtype), matrix, preferred_element_type=np.float32)

    return jax.lax.fori_loop(1, times, once, once(0, matrix))


def copying(mebibytes: int, times: int) -> Callable[[], None]:
    """Reads so much of the device's memory, and writes as much, so many times."""
    values = jnp.zeros((mebibytes, 2**18), np.float32)
    copy = jax.jit(lambda values: jax.lax.fori_loop(0, times, lambda _, x: x + 1, values))
    copy(values).block_until_ready()

    def go() -> None:
        copy(values).block_until_ready()

    return go


def on_gpu(kernels: list[hlo.Kernel], step: list[float], bandwidth: list[float]) -> dict[str, Any]:
    """What a GPU's step launches and moves, beside its memory's bandwidth.

    Args:
      kernels: of a step.
      step: its seconds.
      bandwidth: of its memory, in bytes per second, measured in turn with the step.
    """
    moved = sum(each.bytes for each in kernels)
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
    chosen = device.select("auto")
    device.enable_compilation_cache()
    sizes = ON_CPU if chosen.platform == "cpu" else ON_ACCELERATOR
    updates = arguments.updates or sizes.updates
    runs, summary = [], {}
    for preset in arguments.presets:
        config = PRESETS[preset]
        _, dtype = fastest(chosen, config.channels, config.dtype)
        products = {name: product(name, sizes) for name in dict.fromkeys(("float32", dtype))}
        contestants, operations_executed, kernels = parts(config, updates)
        others = products if chosen.platform == "cpu" else products | {"copy": copying(_COPIED, _TIMES)}
        single = layers(config, sizes.layer_turns)
        seconds: dict[str, list[float]] = {name: [] for name in (*others, *contestants)}
        by_layer: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in single}
        for _ in range(arguments.rounds):
            for name, other in others.items():
                seconds[name].append(timed(other))
            for name, contestant in contestants.items():
                seconds[name].append(timed(contestant) / updates)
            for name, ways in single.items():
                for times, way in zip(by_layer[name], ways, strict=True):
                    times.append(timed(way) / sizes.layer_turns)
        runs.append({"preset": preset, "seconds": seconds, "layers": by_layer})
        rates = {name: [sizes.operations / s / 1e9 for s in seconds[name]] for name in products}
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
        if chosen.platform != "cpu":
            moved = 2 * 2**20 * _COPIED * _TIMES  # read and written
            bandwidth = [moved / s for s in seconds["copy"]]
            summary[preset] |= on_gpu(kernels, seconds["whole step"], bandwidth)
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
