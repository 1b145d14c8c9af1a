"""What the old system's minute is good for: the default training as a whole process, cold and warm.

Claim: mean and deviation, over seeds, of the test accuracy and of the seconds of `train.py`, beside the
Keras CNN's claimed 98.15% after about one minute on a GPU. Cold runs start from empty caches: nothing
prepared, nothing compiled. Warm runs find both. The test split is read once in each run, at its end.

    python -m benchmarks.one_minute [--preset standard] [--seeds 10] [--cold 2]
    python -m benchmarks.one_minute --preset large_batch --devices 8 --seeds 3 --cold 0
"""

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro

from benchmarks import protocol
from benchmarks.flags import Count, Natural
from jaxdigits.config import Preset


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Times whole trainings, each in a process of its own."""

    preset: Preset = "standard"
    """The preset to train with."""
    seeds: Count = 10
    """Warm runs, with seeds from 0."""
    cold: Natural = 2
    """Cold runs, with seeds from 0."""
    devices: Count = 1
    """Devices that share each batch; on a CPU they are simulated, and have the same cores."""


def train(
    preset: str, *flags: str, seed: int, cache: Path, look: Callable[[Path], object] = lambda _: None
) -> dict[str, Any]:
    """One training in a fresh process: its summary, its history and what the system measured.

    Args:
      preset: what to train.
      *flags: further flags of `train.py`.
      seed: of the run.
      cache: the folder of prepared data and compiled programs.
      look: is given the run's folder before that is removed.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = ["train.py", "--quiet", "--preset", preset, "--seed", str(seed), "--run-dir", str(run)]
        command += flags
        _, measured = protocol.run(command, JAXDIGITS_CACHE=str(cache))
        summary = json.loads((run / "summary.json").read_text())
        lines = (run / "metrics.jsonl").read_text().splitlines()
        look(run)
    return summary | measured | {"history": [json.loads(line) for line in lines]}


def main(arguments: Arguments) -> None:
    """Measures, prints and saves."""
    runs, flags = [], ()
    if arguments.devices > 1:
        flags = ("--devices", str(arguments.devices))
        os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={arguments.devices}"
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.cold):
            result = train(arguments.preset, *flags, seed=seed, cache=Path(folder) / f"cold-{seed}")
            runs.append({"caches": "cold"} | result)
            _tell(runs[-1])
        warm = Path(folder) / "warm"
        # Prepares the data and compiles the programs, which on a CPU do not depend on where a training ends.
        ahead = () if protocol.accelerators() else ("--max-seconds", "1")
        train(arguments.preset, *flags, *ahead, seed=0, cache=warm)
        for seed in range(arguments.seeds):
            runs.append({"caches": "warm"} | train(arguments.preset, *flags, seed=seed, cache=warm))
            _tell(runs[-1])
    summary: dict[str, Any] = {"preset": arguments.preset, "devices": arguments.devices}
    for caches in ("cold", "warm"):
        chosen = [run for run in runs if run["caches"] == caches]
        if chosen:
            summary[caches] = {
                "test_accuracy": protocol.mean([run["test_accuracy"] for run in chosen]),
                "wall_seconds": protocol.mean([run["wall_seconds"] for run in chosen]),
                "peak_memory_mib": protocol.mean([run["peak_memory_mib"] for run in chosen]),
                "seconds": {
                    name: protocol.mean([run["seconds"][name] for run in chosen])
                    for name in chosen[0]["seconds"]
                },
            }
    print(protocol.save(f"one_minute-{arguments.preset}", runs, arguments.seeds, summary))


def _tell(run: dict[str, Any]) -> None:
    seconds = run["seconds"]
    total, train_alone = seconds["total"], seconds["train"]
    print(f"{run['caches']} seed {run['seed']}: {run['test_accuracy']:.2%}", end=", ")
    print(f"train {train_alone:.1f} s, total {total:.1f} s, process {run['wall_seconds']:.1f} s", end=", ")
    print(f"{run['peak_memory_mib']:.0f} MiB", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
