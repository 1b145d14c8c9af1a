"""The ladder from a plain start to a preset: what each choice is worth, in accuracy and in seconds.

Claim: each rung differs from the one above it in what its name says, and in nothing else. Accuracy is that
on training images held out (10,000 for `fast`, 5,000 for `standard`), never trained on; the choices were
made on such images. Fresh processes, the rungs taking turns, seeds from 0.

    python -m benchmarks.ablation [--preset fast] [--seeds 10]
"""

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import tyro

from benchmarks import protocol
from benchmarks.one_minute import train
from jaxdigits.config import Preset

# Each rung's name and the flags that it adds to those above it.
LADDERS: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "fast": (
        (
            "16 and 32 channels, random filters, AdamW 0.9/0.999",
            ("--channels", "16", "32", "--stem", "random", "--beta1", "0.9", "--beta2", "0.999",
             "--label-smoothing", "0"),
        ),
        ("label smoothing 0.05", ("--label-smoothing", "0.05")),
        ("first filters start as whitening ones", ("--stem", "tuned")),
        ("first filters are kept as they start", ("--stem", "whitened")),
        ("AdamW 0.8/0.95", ("--beta1", "0.8", "--beta2", "0.95")),
        ("8 and 32 channels: the preset", ("--channels", "8", "32")),
    ),
    "standard": (
        (
            "`fast` for 10 epochs",
            ("--channels", "8", "32", "--beta1", "0.8", "--beta2", "0.95", "--learning-rate", "0.006",
             "--weight-decay", "0", "--max-shift", "0", "--max-scale", "0", "--max-shear", "0"),
        ),
        ("random shifts and stretches", ("--max-shift", "2", "--max-scale", "0.1")),
        ("random slants", ("--max-shear", "0.15")),
        ("16, 64 and 64 channels", ("--channels", "16", "64", "64")),
        (
            "AdamW 0.9/0.99 at half the rate, decay 0.05: the preset",
            ("--beta1", "0.9", "--beta2", "0.99", "--learning-rate", "0.003", "--weight-decay", "0.05"),
        ),
        ("first filters trained on", ("--stem", "tuned")),
    ),
}  # fmt: skip
HELD_OUT = {"fast": 10_000, "standard": 5_000}  # training images


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Trains every rung of a preset's ladder."""

    preset: Preset = "fast"
    """The preset at the ladder's end."""
    seeds: int = 10
    """Runs of each rung, with seeds from 0."""


def flags(preset: str, rung: int) -> list[str]:
    """All flags of a rung: its own and those of the ones above, of which later ones win."""
    merged: dict[str, list[str]] = {}
    for _, added in LADDERS[preset][: rung + 1]:
        name = ""
        for part in added:
            if part.startswith("--"):
                name, merged[part] = part, []
            else:
                merged[name].append(part)
    return [part for name, values in merged.items() for part in (name, *values)]


def main(arguments: Arguments) -> None:
    """Measures, prints and saves."""
    preset, ladder = arguments.preset, LADDERS[arguments.preset]
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.seeds):
            for rung, (name, _) in enumerate(ladder):
                given = [*flags(preset, rung), "--validation", str(HELD_OUT[preset])]
                run = train(preset, *given, seed=seed, cache=Path(folder))
                last = run["history"][-1]
                runs.append(
                    {
                        "rung": name,
                        "seed": seed,
                        "validation_accuracy": last["validation_accuracy"],
                        "validation_loss": last["validation_loss"],
                        "train_seconds": run["seconds"]["train"],
                    }
                )
                print(json.dumps(runs[-1]), flush=True)
    rungs = {}
    for name, _ in ladder:
        chosen = [run for run in runs if run["rung"] == name]
        rungs[name] = {
            figure: protocol.mean([run[figure] for run in chosen])
            for figure in ("validation_accuracy", "validation_loss", "train_seconds")
        }
    print(protocol.save(f"ablation-{preset}", runs, arguments.seeds, preset=preset, rungs=rungs))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
