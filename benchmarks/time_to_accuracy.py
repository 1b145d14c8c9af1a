"""How soon a test accuracy is reached, beside the recipes that this library is measured against.

Claim: for each contestant, the mean accuracy over seeds and the seconds of training, alone and as a whole
process, on the same machine, taking turns in one run; and the ratio of each one's training to ours, as the
median over neighbouring runs. All start from the same arrays. A peer that is not installed is left out,
aloud. `pip install .[bench]` brings PyTorch and Keras.

    python -m benchmarks.time_to_accuracy [--seeds 10] [--peers pytorch_one_epoch ...]
"""

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import tyro

from benchmarks import protocol
from benchmarks.one_minute import train


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Times this library's `fast` preset and its peers, taking turns."""

    seeds: int = 10
    """Runs of each, with seeds from 0."""
    peers: tuple[str, ...] = ("pytorch_one_epoch",)
    """The peers: modules of `benchmarks.peers`."""
    epochs: int | None = None
    """Epochs of the peers; by default those of their recipes."""


def peer(name: str, seed: int, epochs: int | None) -> dict[str, Any]:
    """One run of a peer in a fresh process."""
    command = ["-m", "benchmarks.peers.contestant", name, "--seed", str(seed)]
    if epochs is not None:
        command += ["--epochs", str(epochs)]
    output, measured = protocol.run(command)
    return json.loads(output.splitlines()[-1]) | measured


def ours(seed: int, cache: Path) -> dict[str, Any]:
    """One run of this library in a fresh process, in the form of the peers."""
    run = train("fast", seed, cache)
    return {
        "train_seconds": [run["seconds"]["train"]],
        "test_accuracy": [run["test_accuracy"]],
        "wall_seconds": run["wall_seconds"],
        "peak_memory_mib": run["peak_memory_mib"],
    }


def main(arguments: Arguments) -> None:
    """Measures, prints and saves."""
    runs: list[dict[str, Any]] = []
    left_out: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        train("fast", 0, Path(folder))  # prepares the data and compiles the programs
        for seed in range(arguments.seeds):
            turn = [{"contestant": "jaxdigits fast", "seed": seed} | ours(seed, Path(folder))]
            for name in arguments.peers:
                if name in left_out:
                    continue
                result = peer(name, seed, arguments.epochs)
                if "skipped" in result:
                    print(f"{name} is left out: {result['skipped']}", flush=True)
                    left_out.add(name)
                else:
                    turn.append({"contestant": name, "seed": seed} | result)
            for run in turn:
                seconds, accuracy = run["train_seconds"][-1], run["test_accuracy"][-1]
                print(
                    f"{run['contestant']} seed {seed}: {accuracy:.2%} after {seconds:.2f} s of training, "
                    f"{run['wall_seconds']:.1f} s in all",
                    flush=True,
                )
            runs += turn
    summary = {"contestants": _summary(runs), "left_out": sorted(left_out)}
    print(protocol.save("time_to_accuracy", runs, arguments.seeds, **summary))


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means by contestant, and the ratio of its training seconds to ours."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        by_name.setdefault(run["contestant"], []).append(run)
    mine = [run["train_seconds"][-1] for run in by_name["jaxdigits fast"]]
    return {
        name: {
            "test_accuracy": protocol.mean([run["test_accuracy"][-1] for run in chosen]),
            "train_seconds": protocol.mean([run["train_seconds"][-1] for run in chosen]),
            "wall_seconds": protocol.mean([run["wall_seconds"] for run in chosen]),
            "ratio_of_training": protocol.ratio([run["train_seconds"][-1] for run in chosen], mine),
        }
        for name, chosen in by_name.items()
    }


if __name__ == "__main__":
    main(tyro.cli(Arguments))
