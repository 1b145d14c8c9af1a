"""The folder of a run: how it is claimed, and what is written to it when.

config.json         before the training begins
metrics.jsonl       a line after each epoch
model.safetensors   at the end: the trained model
history.png, confusion.png, mistakes.png
summary.json        last of all: a folder that has it is a finished run
"""

import contextlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from jaxdigits import config as configs
from jaxdigits.checkpoint import MODEL_FILE, Model, save_model
from jaxdigits.config import TrainConfig
from jaxdigits.errors import StorageError, UsageError
from jaxdigits.evaluate import Evaluation
from jaxdigits.storage import write_json

__all__ = ["RunFolder", "refuse_taken"]


class RunFolder:
    """A folder that belongs to one run.

    It is claimed by creating `config.json`, which one process alone can do: of two runs that want the
    same folder, the second is refused.

    Args:
      config: says which folder; without a wish, a new one under `runs/`, named by time and task.

    Raises:
      UsageError: another run has it.
      StorageError: it cannot be made or written to.
    """

    def __init__(self, config: TrainConfig):
        try:
            self.path = _new(config) if config.run_dir is None else _given(Path(config.run_dir))
            with (self.path / "config.json").open("x", encoding="utf-8") as file:
                file.write(json.dumps(configs.to_json(config), indent=2) + "\n")
        except FileExistsError as error:
            raise UsageError(f"--run-dir {self.path} has just been taken by another run") from error
        except OSError as error:
            raise StorageError(f"cannot make the run folder: {error}") from error

    def add_metrics(self, metrics: dict[str, Any]) -> None:
        """Adds an epoch's line to `metrics.jsonl`."""
        file = self.path / "metrics.jsonl"
        try:
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(metrics) + "\n")
        except OSError as error:
            raise StorageError(f"cannot write {file}: {error.strerror or error}") from error

    def save_model(self, model: Model) -> None:
        """Writes the trained model."""
        save_model(self.path / MODEL_FILE, model)

    def draw(
        self, history: list[dict[str, Any]], images: np.ndarray, test: Evaluation, names: tuple[str, ...]
    ) -> None:
        """Draws the figures: the course of the training, the confusions, the worst test errors.

        Args:
          history: the metrics of each epoch.
          images: the test images, uint8 [n, 28, 28, 1].
          test: the evaluation of them.
          names: the classes.
        """
        from jaxdigits import plots

        plots.history(self.path / "history.png", history)
        plots.confusion(self.path / "confusion.png", test.confusion, names)
        wrong = np.flatnonzero(test.predictions != test.labels)
        certainty = np.exp(test.log_probabilities.max(axis=1))
        plots.mistakes(
            self.path / "mistakes.png",
            images[wrong],
            test.labels[wrong],
            test.predictions[wrong],
            certainty[wrong],
            names,
            test.total,
        )

    def finish(self, summary: dict[str, Any]) -> None:
        """Writes the summary, which marks the run as finished."""
        write_json(self.path / "summary.json", summary)


def refuse_taken(config: TrainConfig) -> None:
    """Finds out early whether the folder that the configuration names can be had; writes nothing.

    Raises:
      UsageError: something is in it.
      StorageError: it cannot be looked at, or is no folder.
    """
    if config.run_dir is None:
        return
    folder = Path(config.run_dir)
    try:
        taken = folder.exists() and any(folder.iterdir())
    except OSError as error:
        raise StorageError(f"cannot use --run-dir {folder}: {error.strerror or error}") from error
    if taken:
        raise UsageError(f"--run-dir {folder} is not empty; name a new folder, or remove that one")


def _given(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _new(config: TrainConfig) -> Path:
    task = f"{config.dataset.replace('/', '-')}-{config.preset}"
    stem = f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-{task}"
    Path("runs").mkdir(exist_ok=True)
    for attempt in range(1, 1000):
        folder = Path("runs") / (f"{stem}-{attempt}" if attempt > 1 else stem)
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise StorageError(f"cannot make a run folder: runs/{stem} and its successors are taken")
