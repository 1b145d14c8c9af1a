"""The folder of a run: how it is claimed, and what is written to it when.

.lock               while a process is at work on it
config.json         before the training begins
metrics.jsonl       a line after each epoch
last.safetensors    every so many seconds and epochs: the whole training, to go on with (`last_snapshot`)
last/               in its place, where several processes train
best.safetensors    with it, where images are held out: the model of the epoch that read them best
model.safetensors   at the end: the trained model
history.png, confusion.png, mistakes.png
summary.json        last of all: a folder that has it is a run that has ended
"""

import contextlib
import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from jaxdigits import resume as resumes
from jaxdigits.checkpoint import MODEL_FILE, Model, save_model
from jaxdigits.config import TrainConfig, to_json
from jaxdigits.errors import StorageError, UsageError
from jaxdigits.last_snapshot import LAST_FILE
from jaxdigits.lock import LOCK_FILE, Lock
from jaxdigits.plots import FILES as FIGURES
from jaxdigits.resume import CONFIG_FILE, SUMMARY_FILE
from jaxdigits.storage import atomic_write, write_json

__all__ = ["BEST_FILE", "Onlooker", "RunFolder", "refuse_taken"]

BEST_FILE = "best.safetensors"  # a model, as `checkpoint` has them
_METRICS_FILE = "metrics.jsonl"


class RunFolder:
    """A folder that belongs to one run, and to this process as long as it is entered as a context manager.

    It is claimed by its lock: of two runs that want the same folder, the second is refused. Whatever a run
    that was killed has left half-written is removed.

    Args:
      config: says which folder; without a wish, a new one under `runs/`, named by time and task.
      resumed: the folder of the run to go on with, as `resume.find` gives it; None begins a new one.

    Attributes:
      path: of the folder.

    Raises:
      UsageError: another run has it, or the run cannot go on under this configuration.
      StorageError: it cannot be made or written to.
    """

    def __init__(self, config: TrainConfig, resumed: Path | None = None):
        try:
            self.path = resumed or (_new(config) if config.run_dir is None else _given(Path(config.run_dir)))
            self._lock = Lock(self.path)
        except OSError as error:
            where, reason = error.filename or config.run_dir or "runs", error.strerror or error
            raise StorageError(
                f"cannot make the run folder {where}: {reason}; give another --run-dir"
            ) from error
        try:
            self._claim(config, resumed is not None)
        except BaseException:
            self._lock.release()
            raise

    def _claim(self, config: TrainConfig, resumed: bool) -> None:
        if resumed:
            resumes.check(self.path, config)
        elif not _is_free(self.path):
            raise UsageError(f"--run-dir {self.path} has just been taken by another run")
        try:
            for path in _left(self.path):
                path.unlink(missing_ok=True)
            if resumed:  # it has no end any more
                (self.path / SUMMARY_FILE).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"cannot use the run folder {self.path}: {error.strerror or error}") from error
        write_json(self.path / CONFIG_FILE, to_json(config))

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    def add_metrics(self, metrics: dict[str, Any]) -> None:
        """Adds an epoch's line to `metrics.jsonl`."""
        file = self.path / _METRICS_FILE
        try:
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(metrics) + "\n")
        except OSError as error:
            raise StorageError(f"cannot write {file}: {error.strerror or error}") from error

    def write_metrics(self, history: Iterable[dict[str, Any]]) -> None:
        """Writes `metrics.jsonl` anew: whole, and flushed to the disk."""
        with atomic_write(self.path / _METRICS_FILE) as file:
            file.write("".join(json.dumps(metrics) + "\n" for metrics in history).encode())

    def save_best(self, model: Model) -> None:
        """Writes the model of the epoch with the best validation."""
        save_model(self.path / BEST_FILE, model)

    def save_model(self, model: Model) -> None:
        """Writes the trained model."""
        save_model(self.path / MODEL_FILE, model)

    def finish(self, summary: dict[str, Any]) -> None:
        """Writes the summary, which marks the run as ended."""
        write_json(self.path / SUMMARY_FILE, summary)


class Onlooker(RunFolder):
    """The run folder of a training of several processes, for those that write nothing but checkpoints.

    Args:
      path: of the folder.
    """

    def __init__(self, path: Path):
        self.path = path

    @staticmethod
    def _nothing(*_: Any, **__: Any) -> None:
        pass

    __exit__ = add_metrics = write_metrics = save_best = save_model = finish = _nothing


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
        taken = folder.exists() and not _is_free(folder)
    except OSError as error:
        raise StorageError(f"cannot use --run-dir {folder}: {error.strerror or error}") from error
    if taken:
        other = "--resume the run in it" if resumes.is_run(folder) else "remove that one"
        raise UsageError(f"--run-dir {folder} is not empty; name a new folder, or {other}")


def _is_free(folder: Path) -> bool:
    """Whether nothing is in a folder but what a run leaves that is killed before it begins."""
    return {path.name for path in folder.iterdir()} <= {LOCK_FILE, *(path.name for path in _left(folder))}


def _left(folder: Path) -> list[Path]:
    """Files that a process which was killed has left half-written."""
    names = (CONFIG_FILE, _METRICS_FILE, LAST_FILE, BEST_FILE, MODEL_FILE, *FIGURES, SUMMARY_FILE)
    return [path for name in names for path in folder.glob(f".{name}.*.tmp")]


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
