"""The presets, and the ways to a configuration: from a preset, from another one, from a run's file."""

import dataclasses
import difflib
import json
import os
from typing import Any

from jaxdigits.config import TrainConfig
from jaxdigits.errors import UsageError
from jaxdigits.storage import read_bounded

__all__ = ["PRESETS", "from_json", "resolve"]

_LARGEST = 2**20  # bytes of a configuration: ours have some 600

PRESETS: dict[str, TrainConfig] = {
    # `python train.py`. Of 10,000 images held out, nine views read 99.66% after 13 epochs, 99.64% after 12
    # and 99.62% after 10 (8 seeds each, deviation 0.03, in bfloat16, which costs no accuracy:
    # benchmarks/results/ablation-standard-python3.11-*.json); with half the decay 0.02 less (6 seeds). AdamW
    # at this rate, with a decay of 0.05 and in batches of 96 to 128, reads 99.61% after 12 epochs, 99.62%
    # after 16 and 99.65% after 18 (8 seeds each, deviations 0.03, 0.02 and 0.01); after 6 it reads 99.52%,
    # and Muon 99.58%, with 128 as with 256 (4 to 6 seeds, 0.03). With AdamW, more filters, more hidden units,
    # dropout, SiLU, sharpness-aware updates, other augmentation and other views were no better, or by less
    # than two to twelve seeds can tell. Of the test images: benchmarks/results/one_minute-standard-*.json.
    "standard": TrainConfig(),
    # `python train.py --preset fast`: benchmarks/results/time_to_accuracy-headline-*.json. Of 10,000 images
    # held out its 108 updates read 98.9%, as 281 of AdamW's do that see 128 each, a third more (16 seeds
    # each, deviations 0.06 and 0.07). Batches of 128, 192 or 384 read as much for as many images, but have
    # more or longer updates. A momentum a tenth lower or higher, decay of 1, twice the label smoothing: no
    # better there; Muon for the last layer too, or two iterations in place of its three: up to 0.1 worse (8
    # to 12 seeds, deviations 0.04 to 0.1). 16 and 32 filters are a seventh sooner there, at half of an EPYC's
    # product rate, where these have two thirds.
    "fast": TrainConfig(
        preset="fast",
        epochs=0.46,
        learning_rate=0.008,
        beta1=0.8,
        beta2=0.95,
        weight_decay=0.5,
        max_shift=0.0,
        max_scale=0.0,
        max_shear=0.0,
        channels=(24, 32),
        stem="whitened",
        hidden=128,
        views=1,
        validation=0,
    ),
    # `python train.py --preset gpu`: the network of `standard`, and AdamW in batches that leave little of a
    # GPU idle; Muon was not tried on one. Of 10,000 images held out one view reads 99.55% and nine 99.60% (8
    # seeds, deviations 0.04 and 0.05), in batches of 128 images 99.55% and 99.62% (0.03 and 0.02). One view
    # reads 99.53% at a rate of 0.003 and 99.54% at 0.002, in batches of 1,024 at 0.002 99.52% (4 seeds each,
    # deviation 0.05); twice the epochs are no better.
    "gpu": TrainConfig(
        preset="gpu",
        epochs=16.0,
        batch_size=512,
        optimizer="adamw",
        learning_rate=2.5e-3,
        weight_decay=0.05,
    ),
    # `python train.py --preset robust`: the model that comes with the package, for handwriting that is not
    # MNIST's and for pictures that show no digit (figures: benchmarks/results/handwriting-*.json).
    "robust": TrainConfig(
        preset="robust",
        epochs=24.0,
        batch_size=64,
        optimizer="adamw",
        weight_decay=0.05,
        max_shift=3.5,
        max_scale=0.25,
        max_shear=0.35,
        max_slant=0.15,
        max_bend=1.2,
        stretch=0.2,
        hands=0.3,
        ink=0.25,
        damage=0.12,
        calming=0.65,
        non_digits=33_000,
        channels=(32, 64, 128),
        stem="whitened",
        hidden=256,
        views=5,
        validation=5000,
    ),
    # `jaxdigits train --preset large_batch --devices all`: a batch for many devices. Of this size the peak is
    # 0.03, where the rate of `standard` would lead to 0.034. Chosen of four runs, all of seed 0, by their
    # held-out images: a peak of 0.01, 0.02 and 0.05 for 12 epochs gave 97.60%, 98.22% and 97.58%, 0.03 for 30
    # epochs 99.26%.
    "large_batch": TrainConfig(
        preset="large_batch",
        epochs=30.0,
        batch_size=8192,
        optimizer="adamw",
        learning_rate=0.00265,
        weight_decay=0.05,
        beta2=0.95,
        channels=(16, 64, 64),
        stem="whitened",
        views=5,
        validation=5000,
    ),
}


def resolve(config: "TrainConfig | str", **overrides: Any) -> TrainConfig:
    """The configuration named by a preset, or the one given, with some of its fields replaced.

    Raises:
      UsageError: there is no such preset or field, or a value is ill-typed or out of range.
    """
    if isinstance(config, str):
        if config not in PRESETS:
            raise UsageError(f"there is no preset {config!r}; expected one of {', '.join(PRESETS)}")
        other = overrides.get("preset")  # another preset brings its own values; a wrong one is refused below
        config = PRESETS[other if isinstance(other, str) and other in PRESETS else config]
    _check_names(overrides)
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)} | overrides
    return TrainConfig(**fields)


def from_json(path: str | os.PathLike[str]) -> TrainConfig:
    """Reads a configuration that a run has saved.

    Raises:
      UsageError: the file is missing, is not JSON, or has an unknown, ill-typed or bad field.
    """
    try:
        fields = json.loads(read_bounded(path, _LARGEST).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"cannot read the configuration {path}: {error}") from error
    if not isinstance(fields, dict):
        raise UsageError(f"{path} holds no configuration: expected a JSON object of fields")
    preset = fields.get("preset", "standard")
    try:
        _check_names(fields)
        return resolve(preset if isinstance(preset, str) else "standard", **fields)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _check_names(fields: dict[str, Any]) -> None:
    known = [field.name for field in dataclasses.fields(TrainConfig)]
    for name in fields:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
            raise UsageError(f"there is no configuration field {name!r}; {hint}")
