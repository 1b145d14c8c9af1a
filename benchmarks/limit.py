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
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks import hlo, protocol
from benchmarks.operations import operations, training_operations
from benchmarks.step_parts import LAYER_TURNS, layers, parts
from jaxdigits import device
from jaxdigits.config import PRESETS, Preset
from jaxdigits.model import fastest


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Measures the compiled step against the machine's matrix-product rate."""

    rounds: int = 10
    """How often each part is timed; the parts take turns."""
    updates: int = 60
    """Updates in one timing."""
    presets: tuple[Preset, ...] = ("fast", "standard")
    """The presets to measure."""


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
                    times.append(timed(way) / LAYER_TURNS)
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
