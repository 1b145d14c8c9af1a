"""The ladder from a plain start to a preset: what each choice is worth, in accuracy and in seconds.

Claim: each rung differs from the one above it in what its name says, and in nothing else. Accuracy is that
on training images held out (10,000 for `fast`, 5,000 for `standard`), never trained on; the choices were
made on such images. Fresh processes, the rungs taking turns, seeds from 0.

The preset `robust` is taken apart instead: each rung leaves one group of its augmentation out of the whole.
Two more figures show what that is for, on training images held out as well: the mean error under the fifteen
corruptions (`corruptions`), and the share of what is no digit (`nondigits`) that is refused where 1% of the
held-out images are. It is not the whole preset, but one of a few epochs: what the groups are worth shows
before they have paid off in full. What is measured is saved after each seed.

    python -m benchmarks.ablation [--preset fast] [--seeds 10] [--epochs 3] [--last 4]
"""

import contextlib
import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from benchmarks import protocol
from benchmarks.flags import Count
from benchmarks.one_minute import train
from jaxdigits import processor
from jaxdigits.dataset import Split
from jaxdigits.errors import DataError
from jaxdigits.presets import resolve
from jaxdigits.splits import load_splits

# Each rung's name and the flags that it adds to those above it.
LADDERS: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "fast": (
        (
            "16 and 32 channels, random filters, AdamW 0.9/0.999",
            ("--channels", "16", "32", "--stem", "random", "--beta1", "0.9", "--beta2", "0.999",
             "--label-smoothing", "0", "--epochs", "1", "--optimizer", "adamw", "--batch-size", "128",
             "--weight-decay", "0", "--learning-rate", "0.0092", "--dtype", "float32"),
        ),
        ("label smoothing 0.05", ("--label-smoothing", "0.05")),
        ("first filters start as whitening ones", ("--stem", "tuned")),
        ("first filters are kept as they start", ("--stem", "whitened")),
        ("AdamW 0.8/0.95", ("--beta1", "0.8", "--beta2", "0.95")),
        ("24 and 32 channels", ("--channels", "24", "32")),
        ("three fifths of an epoch", ("--epochs", "0.6")),
        (
            "Muon, decay 0.5, 0.46 of an epoch",
            ("--optimizer", "muon", "--weight-decay", "0.5", "--learning-rate", "0.008", "--epochs", "0.46"),
        ),
        ("batches of 256 images: the preset", ("--batch-size", "256")),
        ("products in bfloat16: the preset on a CPU that is faster in it", ("--dtype", "bfloat16")),
    ),
    "standard": (
        (
            "8 and 32 channels, AdamW 0.8/0.95, no augmentation",
            ("--epochs", "12", "--channels", "8", "32", "--beta1", "0.8", "--beta2", "0.95",
             "--learning-rate", "0.006", "--batch-size", "64", "--weight-decay", "0", "--max-shift", "0",
             "--max-scale", "0", "--max-shear", "0", "--stem", "whitened", "--optimizer", "adamw",
             "--dtype", "float32"),
        ),
        ("random shifts and stretches", ("--max-shift", "2", "--max-scale", "0.1")),
        ("random slants", ("--max-shear", "0.15")),
        ("16, 64 and 64 channels", ("--channels", "16", "64", "64")),
        (
            "AdamW 0.9/0.99 at half the rate, decay 0.05",
            ("--beta1", "0.9", "--beta2", "0.99", "--learning-rate", "0.003", "--weight-decay", "0.05"),
        ),
        ("16, 64 and 96 channels", ("--channels", "16", "64", "96")),
        ("batches of 96 images instead of 64", ("--batch-size", "96")),
        ("first filters are trained on", ("--stem", "tuned")),
        ("16 epochs instead of 12", ("--epochs", "16")),
        ("batches of 128 images instead of 96", ("--batch-size", "128")),
        (
            "Muon, decay 0.4, 13 epochs instead of 16",
            ("--optimizer", "muon", "--weight-decay", "0.4", "--epochs", "13"),
        ),
        ("batches of 256 images: the preset", ("--batch-size", "256")),
        ("products in bfloat16: the preset on a CPU that is faster in it", ("--dtype", "bfloat16")),
    ),
    "robust": (
        ("the preset", ()),
        ("without ink", ("--ink", "0")),
        ("without damage", ("--damage", "0")),
        ("without bends", ("--max-bend", "0")),
        ("without other aspects", ("--stretch", "0")),
        ("without other hands", ("--hands", "0")),
        ("without calming down", ("--calming", "0")),
        ("without images of no digit", ("--non-digits", "0")),
    ),
}  # fmt: skip
APART = ("robust",)  # ladders whose rungs each stand alone, instead of adding up
HELD_OUT = {"fast": 10_000, "standard": 5_000, "robust": 5_000}  # training images
CORRUPTED, NON_DIGITS = 2_000, 300  # held-out images; images of each kind of what is no digit
SEED = 1  # of both, which `corruptions`, `outliers` and `handwriting` do not use


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Trains every rung of a preset's ladder."""

    preset: Literal["fast", "standard", "robust"] = "fast"
    """The preset at the ladder's end."""
    seeds: Count = 10
    """Runs of each rung, with seeds from 0."""
    epochs: Count | None = None
    """Epochs of each training; by default those of the rung, but 3 of `robust`."""
    last: Count | None = None
    """Only so many rungs at the ladder's end; by default all."""


def flags(preset: str, rung: int) -> list[str]:
    """All flags of a rung: its own and those of the ones above, of which later ones win.

    Where rungs stand alone, only its own.
    """
    merged: dict[str, list[str]] = {}
    for _, added in LADDERS[preset][rung if preset in APART else 0 : rung + 1]:
        name = ""
        for part in added:
            if part.startswith("--"):
                name, merged[part] = part, []
            else:
                merged[name].append(part)
    return [part for name, values in merged.items() for part in (name, *values)]


def robustness(model: Path, held_out: Split) -> dict[str, float]:
    """The mean error under corruptions, and the share of non-digits `refused` where 1% of the digits are.

    Args:
      model: a run folder.
      held_out: training images that it was not trained on, of which the first ones are corrupted.
    """
    from benchmarks.corruptions import CORRUPTIONS, corrupt
    from benchmarks.nondigits import KINDS
    from benchmarks.outliers import refused_at
    from jaxdigits import rejection
    from jaxdigits.recognizer import load

    reader = load(model)

    def scores(images: np.ndarray) -> np.ndarray:
        return rejection.score(
            reader.logits(images), reader.model.temperature, none_class=reader.model.none_class
        )

    images, labels = held_out.images[:CORRUPTED, :, :, 0], held_out.labels[:CORRUPTED]
    errors = [
        np.mean(reader.probabilities(corrupt(name, images, SEED)[..., None]).argmax(axis=1) != labels)
        for name in CORRUPTIONS
    ]
    inside = scores(held_out.images)
    refused = []
    for make in KINDS.values():
        with contextlib.suppress(DataError):  # clothes, where they are not installed
            refused.append(refused_at(inside, scores(make(NON_DIGITS, SEED))))
    return {"corruption_error": float(np.mean(errors)), "refused": float(np.mean(refused))}


def _held_out(preset: str) -> Split:
    """The training images that no rung is trained on."""
    split = load_splits(resolve(preset, validation=HELD_OUT[preset], non_digits=0), print).validation
    assert split is not None  # noqa: S101 (asked for above)
    return split


def main(arguments: Arguments) -> None:
    """Measures, prints and saves, seed by seed."""
    preset, ladder = arguments.preset, LADDERS[arguments.preset]
    if arguments.last is not None and not 1 <= arguments.last <= len(ladder):
        sys.exit(f"--last is a number of rungs, from 1 to {len(ladder)}, not {arguments.last}.")
    if arguments.seeds < 1:
        sys.exit(f"--seeds is a number of runs, at least 1, not {arguments.seeds}.")
    chosen = [*range(len(ladder) - (arguments.last or len(ladder)), len(ladder))]
    if ladder[-1][1] == ("--dtype", "bfloat16") and not processor.multiplies_bfloat16():
        print(f"left out: {ladder[chosen.pop()][0]}; this processor is not faster in it")
    if not chosen:
        sys.exit("No rung is left to be measured.")
    epochs = arguments.epochs or (3 if preset in APART else None)
    figures = ["validation_accuracy", "validation_loss", "train_seconds"]
    figures += ["corruption_error", "refused"] if preset in APART else []
    held_out = _held_out(preset) if preset in APART else None
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.seeds):
            for rung in chosen:
                name = ladder[rung][0]
                given = [*flags(preset, rung), "--validation", str(HELD_OUT[preset])]
                given += ["--epochs", str(epochs)] if epochs else []
                extra: dict[str, float] = {}

                def look(model: Path, extra: dict[str, float] = extra) -> None:
                    if held_out is not None:
                        extra.update(robustness(model, held_out))

                run = train(preset, *given, seed=seed, cache=Path(folder), look=look)
                last = run["history"][-1]
                runs.append(
                    {
                        "rung": name,
                        "seed": seed,
                        "validation_accuracy": last["validation_accuracy"],
                        "validation_loss": last["validation_loss"],
                        "train_seconds": run["seconds"]["train"],
                    }
                    | extra
                )
                print(json.dumps(runs[-1]), flush=True)
            summary = {
                "preset": preset,
                "epochs": epochs or resolve(preset).epochs,
                "rungs": {ladder[rung][0]: _means(runs, ladder[rung][0], figures) for rung in chosen},
            }
            print(protocol.save(f"ablation-{preset}", runs, seed + 1, summary), flush=True)


def _means(runs: list[dict[str, Any]], rung: str, figures: list[str]) -> dict[str, Any]:
    """The means of a rung's figures over its seeds."""
    return {figure: protocol.mean([run[figure] for run in runs if run["rung"] == rung]) for figure in figures}


if __name__ == "__main__":
    main(tyro.cli(Arguments))
