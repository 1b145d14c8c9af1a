"""What each form in which the network can be computed costs: an update, and an image that is read.

Claim: the form that `network_forms.fastest` names for a device takes least there, of those that are worth a
look. All give the same but for rounding. They take turns in one process, and each timing is of many updates,
or of many images; ratios are medians of neighbouring timings. Left out are convolutions as XLA has them on a
CPU, which take twenty times as long within a loop, and what falls back to a general product there: windows in
bfloat16. A CPU that has any instructions for bfloat16 is measured in it, whether it is taken there or not.

    python -m benchmarks.forms [--rounds 30] [--presets fast standard]
"""

import dataclasses
from collections.abc import Callable
from typing import get_args

import jax
import numpy as np
import tyro

from benchmarks import protocol
from benchmarks.flags import Count
from benchmarks.limit import ON_ACCELERATOR, ON_CPU, timed
from benchmarks.step_parts import driven, training_data
from jaxdigits import device, processor
from jaxdigits.compiling import batch_of, portion_of
from jaxdigits.config import Preset, TrainConfig
from jaxdigits.evaluate import in_portions
from jaxdigits.model import build
from jaxdigits.network import Form, Network
from jaxdigits.network_forms import fastest
from jaxdigits.optimizer import make_optimizer
from jaxdigits.presets import PRESETS
from jaxdigits.step import init_state, make_update

_OF_A_CPU = "winograd", "rowwise"  # in float32


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Times an update and the reading of images in each form of the network."""

    rounds: Count = 30
    """How often each is timed; the forms take turns."""
    presets: tuple[Preset, ...] = ("fast", "standard")
    """The presets to measure."""


def formats(platform: str, named: str) -> tuple[str, ...]:
    """The number formats that are worth a look, where one is named."""
    has_bfloat16 = platform == "cpu" and {"avx512_bf16", "amx_bf16"} & processor.instruction_sets()
    return "float32", named, *(["bfloat16"] if has_bfloat16 else [])


def candidates(platform: str, dtypes: tuple[str, ...]) -> list[tuple[Form, str]]:
    """The forms that are worth a look, each with the number format of its products."""
    found = [(form, dtype) for dtype in dict.fromkeys(dtypes) for form in get_args(Form)]
    if platform != "cpu":
        return [(form, dtype) for form, dtype in found if form not in _OF_A_CPU]
    slow = {(form, "bfloat16") for form in ("patches", *_OF_A_CPU)}
    return [pair for pair in found if pair[0] != "direct" and pair not in slow]


def updating(config: TrainConfig, network: Network, updates: int) -> Callable[[], None]:
    """Makes so many updates."""
    optimizer = make_optimizer(config, 10_000)
    portion = portion_of(network, jax.local_devices()[0].platform)
    update = make_update(network, optimizer, config, 10_000, portion)
    return driven(update, init_state(network.init(0), optimizer), training_data(config), updates)


def reading(network: Network, platform: str) -> tuple[Callable[[], None], int]:
    """Reads images, and how many."""
    images, portion = batch_of(platform)
    program = jax.jit(in_portions(network, portion), compiler_options=device.compiler_options(platform))
    params = jax.device_put(network.init(0))
    pixels = jax.device_put(np.random.default_rng(0).integers(0, 256, (images, 28, 28, 1), np.uint8))
    jax.block_until_ready(program(params, pixels))
    return lambda: jax.block_until_ready(program(params, pixels)), images


def main(arguments: Arguments) -> None:
    """Measures, prints and saves."""
    chosen = device.select("auto")
    device.enable_compilation_cache()
    updates = (ON_CPU if chosen.platform == "cpu" else ON_ACCELERATOR).updates
    runs, summary = [], {}
    for preset in arguments.presets:
        config = PRESETS[preset]
        named = {
            name: fastest(chosen, config.channels, config.dtype, learning=learning)
            for name, learning in (("update", True), ("image", False))
        }
        ways: dict[tuple[str, tuple[Form, str]], tuple[Callable[[], None], int]] = {}
        for form, dtype in candidates(chosen.platform, formats(chosen.platform, named["update"][1])):
            fixed = config.stem == "whitened"
            network = build(config.channels, config.hidden, 10, form=form, dtype=dtype, fixed_stem=fixed)
            ways["update", (form, dtype)] = updating(config, network, updates), updates
            ways["image", (form, dtype)] = reading(network, chosen.platform)
        seconds: dict[tuple[str, tuple[Form, str]], list[float]] = {key: [] for key in ways}
        for _ in range(arguments.rounds):
            for key, (way, count) in ways.items():
                seconds[key].append(timed(way) / count)
        summary[preset] = [
            {
                "of": of,
                "form": form,
                "dtype": dtype,
                "named": named[of] == (form, dtype),
                "microseconds": protocol.mean([1e6 * s for s in taken]),
                "ratio_to_named": protocol.ratio(taken, seconds[of, named[of]]),
            }
            for (of, (form, dtype)), taken in seconds.items()
        ]
        runs += [
            {"preset": preset, "of": of, "form": form, "dtype": dtype, "seconds": taken}
            for (of, (form, dtype)), taken in seconds.items()
        ]
        for row in summary[preset]:
            print(
                f"{preset}, an {row['of']} as {row['form']} in {row['dtype']}: "
                f"{row['microseconds']['mean']:.1f} us, {row['ratio_to_named']:.2f} of what is taken",
                flush=True,
            )
    print(protocol.save("forms", runs, arguments.rounds, summary))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
