"""How soon a test accuracy is reached, beside the recipes that this library is measured against.

Claim: the seconds after which 98.15%, 99.0% and 99.5% of the test images are read rightly, of training
alone and of the whole process, on one machine, all contestants taking turns. All start from the same
arrays. A peer reaches an accuracy with the first epoch that ends at or above it; ours are complete runs,
each under a schedule of its own length: `sprint`, which is `fast` with a smaller network and 48 updates,
`fast`, and `standard`. They draw no figures, as the peers draw none, and find their programs compiled by an
earlier run. Ratios are medians over neighbouring runs. A peer that is not installed is left out, aloud.
`pip install .[bench]` brings what they need. What is measured is saved after each seed; `--add` goes on
behind the seeds that the result file has, on another day if need be.

    python -m benchmarks.time_to_accuracy [--seeds 30]
    python -m benchmarks.time_to_accuracy --name keras --until 0.9815 --ours sprint fast \
        --peers keras_origin_tensorflow
    python -m benchmarks.time_to_accuracy --name examples --ours sprint fast standard \
        --peers pytorch_example flax_example keras_origin_jax --seeds 1 [--add]
    python -m benchmarks.time_to_accuracy --name examples_until_99 --until 0.99 \
        --peers pytorch_example flax_example
"""

import dataclasses
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

import tyro

from benchmarks import protocol
from benchmarks.flags import Count
from benchmarks.one_minute import train
from benchmarks.peers.contestant import PeerName

ACCURACIES = (0.9815, 0.99, 0.995)  # the Keras CNN's claim; and what each next step is worth naming
# Of 10,000 images held out, sprint's 48 updates read 98.13% at this rate and a little above it, as AdamW's
# 130 of 128 images do at 0.012 (12 to 16 seeds each, deviations of 0.1). Of the test images 0.3 points more
# are read.
_SPRINT = "--channels 8 32 --hidden 96 --learning-rate 0.016 --max-updates 48"
OurName = Literal["sprint", "fast", "standard"]
OURS: dict[OurName, tuple[str, ...]] = {  # name: the preset, and further flags of `train.py`
    "sprint": ("fast", *_SPRINT.split()),
    "fast": ("fast",),
    "standard": ("standard",),
}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Times this library and its peers, taking turns."""

    seeds: Count = 10
    """Runs of each, with seeds from 0."""
    ours: tuple[OurName, ...] = ("sprint", "fast")
    """Runs of this library."""
    peers: tuple[PeerName, ...] = ("pytorch_one_epoch",)
    """The peers."""
    epochs: Count | None = None
    """Epochs of the peers; by default those of their recipes."""
    until: float | None = None
    """Stop a peer when an epoch ends with this test accuracy, from 0 to 1: when it had it is known then."""
    name: str = "headline"
    """Part of the result file's name."""
    add: bool = False
    """Keep the seeds that the result file has, and run only those that it lacks."""


def peer(name: PeerName, seed: int, epochs: int | None, until: float | None) -> dict[str, Any]:
    """One run of a peer in a fresh process."""
    command = ["-m", "benchmarks.peers.contestant", name, "--seed", str(seed)]
    if epochs is not None:
        command += ["--epochs", str(epochs)]
    if until is not None:
        command += ["--until", str(until)]
    output, measured = protocol.run(command)
    return json.loads(output.splitlines()[-1]) | measured


def ours(name: OurName, seed: int, cache: Path) -> dict[str, Any]:
    """One run of this library in a fresh process, in the form of the peers."""
    run = train(*OURS[name], "--no-plots", seed=seed, cache=cache)
    return {
        "train_seconds": [run["seconds"]["train"]],
        "test_accuracy": [run["test_accuracy"]],
        "seconds_before_end": [0.0],
        "wall_seconds": run["wall_seconds"],
        "peak_memory_mib": run["peak_memory_mib"],
    }


def reached(run: dict[str, Any], accuracy: float) -> tuple[float, float] | None:
    """The seconds of training, and of the process, after which a run first had an accuracy, if it did.

    Of the process what came after that epoch had been measured is taken off.
    """
    course = zip(run["train_seconds"], run["test_accuracy"], run["seconds_before_end"], strict=True)
    for seconds, value, before_end in course:
        if value >= accuracy:
            return seconds, run["wall_seconds"] - before_end
    return None


def summary(runs: list[dict[str, Any]], until: float | None) -> dict[str, Any]:
    """Of each contestant the means, and of each accuracy who reached it when, against our soonest.

    Nothing is said of accuracies beyond the one at which peers were stopped.
    """
    by_name: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        by_name.setdefault(run["contestant"], []).append(run)
    contestants = {
        name: {
            "test_accuracy": protocol.mean([run["test_accuracy"][-1] for run in chosen]),
            "train_seconds": protocol.mean([run["train_seconds"][-1] for run in chosen]),
            "wall_seconds": protocol.mean([run["wall_seconds"] for run in chosen]),
            "peak_memory_mib": protocol.mean([run["peak_memory_mib"] for run in chosen]),
            "ratio_of_training": protocol.ratio(*(_trainings(by_name, n) for n in (name, "jaxdigits fast")))
            if "jaxdigits fast" in by_name
            else None,
        }
        for name, chosen in by_name.items()
    }
    accuracies = {}
    for accuracy in (value for value in ACCURACIES if until is None or value <= until):
        mine = [
            name
            for name in OURS
            if f"jaxdigits {name}" in contestants
            and contestants[f"jaxdigits {name}"]["test_accuracy"]["mean"] >= accuracy
        ]
        if mine:
            soonest = by_name[f"jaxdigits {mine[0]}"]
            accuracies[f"{accuracy:.2%}"] = {
                "ours": f"jaxdigits {mine[0]}",
                "peers": {
                    name: _against(chosen, soonest, accuracy)
                    for name, chosen in by_name.items()
                    if not name.startswith("jaxdigits")
                },
            }
    return {"contestants": contestants, "accuracies": accuracies, "until": until}


def _trainings(by_name: dict[str, list[dict[str, Any]]], name: str) -> list[float]:
    """The seconds that each full training of a contestant took."""
    return [run["train_seconds"][-1] for run in by_name[name]]


def _against(runs: list[dict[str, Any]], ours: list[dict[str, Any]], accuracy: float) -> dict[str, Any]:
    """When a peer reached an accuracy, and how many times longer it took than we did."""
    pairs = [
        (at, mine) for run, mine in zip(runs, ours, strict=True) if (at := reached(run, accuracy)) is not None
    ]
    found: dict[str, Any] = {"reached": len(pairs), "of": len(runs)}
    if pairs:
        trains = [at[0] / mine["train_seconds"][-1] for at, mine in pairs]
        walls = [at[1] / mine["wall_seconds"] for at, mine in pairs]
        found |= {
            "train_seconds": protocol.mean([at[0] for at, _ in pairs]),
            "wall_seconds": protocol.mean([at[1] for at, _ in pairs]),
            "ratio_of_training": statistics.median(trains),
            "ratio_of_process": statistics.median(walls),
        }
    return found


def main(arguments: Arguments) -> None:
    """Measures, prints and saves, seed by seed."""
    if arguments.until is not None and not 0 < arguments.until <= 1:
        sys.exit(f"--until is a share of the test images, from 0 to 1, not {arguments.until:g}: say 0.99.")
    part = f"time_to_accuracy-{arguments.name}"
    runs, earlier = _measured(part, arguments) if arguments.add else ([], [])
    begun = 1 + max((run["seed"] for run in runs), default=-1)
    left_out: set[str] = set()
    path = None
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.ours:  # prepares the data and compiles the programs
            ours(name, 0, Path(folder))
        for seed in range(begun, arguments.seeds):
            turn = []
            for name in arguments.ours:
                result = ours(name, seed, Path(folder))
                turn.append({"contestant": f"jaxdigits {name}", "seed": seed} | result)
            for name in arguments.peers:
                if name in left_out:
                    continue
                result = peer(name, seed, arguments.epochs, arguments.until)
                if "skipped" in result:
                    print(f"{name} is left out: {result['skipped']}", flush=True)
                    left_out.add(name)
                else:
                    turn.append({"contestant": name, "seed": seed} | result)
            for run in turn:
                _tell(run)
            runs += turn
            found = summary(runs, arguments.until) | {"left_out": sorted(left_out)}
            path = protocol.save(part, runs, seed + 1, found, earlier)
    print(path or f"{part} has {begun} seeds already")


def _measured(part: str, arguments: Arguments) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The runs that the result file has, and where they were made: environments, each with `seeds_below`.

    Raises:
      SystemExit: they are of other contestants, went until another accuracy, or are of other versions.
    """
    saved = protocol.load(part)
    if saved is None:
        return [], []
    names = {f"jaxdigits {name}" for name in arguments.ours} | set(arguments.peers)
    if {run["contestant"] for run in saved["runs"]} != names:
        sys.exit(f"{part} was measured with other contestants: leave out --add to begin anew.")
    if saved["summary"].get("until") != arguments.until:
        sys.exit(f"{part} was measured until another accuracy: leave out --add to begin anew.")
    if saved["environment"]["versions"] != protocol.environment()["versions"]:
        sys.exit(f"{part} was measured with other versions: leave out --add to begin anew.")
    made = {"seeds_below": saved["n"]} | saved["environment"]
    return saved["runs"], [*saved.get("earlier_environments", []), made]


def _tell(run: dict[str, Any]) -> None:
    seconds, accuracy = run["train_seconds"][-1], run["test_accuracy"][-1]
    print(
        f"{run['contestant']} seed {run['seed']}: {accuracy:.2%} after {seconds:.2f} s of training, "
        f"{run['wall_seconds']:.1f} s in all",
        flush=True,
    )


if __name__ == "__main__":
    main(tyro.cli(Arguments))
