"""What checkpoints cost a training.

Claim: less than 2% of its time. Three contestants take turns: a training without any checkpoint, one with
those it has by default, and one that saves every second. Reported are the time that the training waited
for its checkpoints, and the time of the thread that writes them beside it, each as a share of the training,
as the run itself has measured them; and the ratio of whole training times, which on a shared machine is
much less certain.

    python -m benchmarks.checkpoints [--preset standard] [--turns 5]
"""

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import tyro

from benchmarks import protocol
from benchmarks.flags import Count
from jaxdigits.config import Preset

WITHOUT = (
    "from jaxdigits.saver import Saver; Saver.due = lambda *_, **__: False; "
    "from jaxdigits.console import main; main('train')"
)
CONTESTANTS = {
    "without": ("-c", WITHOUT),
    "default": ("train.py",),
    "every second": ("train.py", "--checkpoint-seconds", "1"),
}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Times trainings with and without checkpoints."""

    preset: Preset = "standard"
    """The preset to train with."""
    turns: Count = 5
    """Runs of each contestant."""
    epochs: Count | None = None
    """Fewer epochs than the preset's, for a short form."""


def measure(command: tuple[str, ...], arguments: Arguments, seed: int) -> dict[str, Any]:
    """One training in a fresh process: what its summary says of its time."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        flags = ["--quiet", "--preset", arguments.preset, "--seed", str(seed), "--run-dir", str(run)]
        if arguments.epochs:
            flags += ["--epochs", str(arguments.epochs)]
        protocol.run([*command, *flags])
        summary = json.loads((run / "summary.json").read_text())
        size = sum(path.stat().st_size for path in run.glob("last.safetensors"))
    return {"train_seconds": summary["seconds"]["train"], "bytes": size} | summary["checkpoints"]


def main(arguments: Arguments) -> None:
    """Measures, prints and saves."""
    runs: list[dict[str, Any]] = []
    for seed in range(arguments.turns):
        for name, command in CONTESTANTS.items():
            runs.append({"contestant": name, "seed": seed} | measure(command, arguments, seed))
            print(runs[-1], flush=True)
    seconds = {
        name: [run["train_seconds"] for run in runs if run["contestant"] == name] for name in CONTESTANTS
    }
    summary: dict[str, Any] = {"preset": arguments.preset}
    for name in CONTESTANTS:
        chosen = [run for run in runs if run["contestant"] == name]
        summary[name] = {
            "checkpoints": protocol.mean([run["count"] for run in chosen]),
            "waited_share": protocol.mean([run["seconds"] / run["train_seconds"] for run in chosen]),
            "beside_share": protocol.mean(
                [run["background_seconds"] / run["train_seconds"] for run in chosen]
            ),
            "ratio": protocol.ratio(seconds[name], seconds["without"]),
        }
    print(protocol.save(f"checkpoints-{arguments.preset}", runs, arguments.turns, summary))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
