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

__all__ = ["RunFolder"]

_MISTAKES = 40  # pictures of test errors, at most


class RunFolder:
    """A folder that belongs to one run.

    Claiming it is the first thing that a run writes to the disk; of two runs that want the same
    one, the second is refused.

    Args:
      config: says which folder; without a wish, a new one under `runs/`, named by time and task.

    Raises:
      UsageError: the folder is not empty.
      StorageError: it cannot be made or written to.
    """

    def __init__(self, config: TrainConfig):
        try:
            self.path = _new(config) if config.run_dir is None else _given(Path(config.run_dir))
        except OSError as error:
            raise StorageError(f"cannot make the run folder: {error}") from error
        write_json(self.path / "config.json", configs.to_json(config))

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
        worst = wrong[np.argsort(-certainty[wrong], kind="stable")][:_MISTAKES]
        plots.mistakes(
            self.path / "mistakes.png",
            images[worst],
            test.labels[worst],
            test.predictions[worst],
            certainty[worst],
            names,
            test.total,
        )

    def finish(self, summary: dict[str, Any]) -> None:
        """Writes the summary, which marks the run as finished."""
        write_json(self.path / "summary.json", summary)


def _given(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise UsageError(f"--run-dir {folder} is not empty; name a new folder, or remove that one")
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
