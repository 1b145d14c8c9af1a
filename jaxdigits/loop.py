"""The loop of a training, from wherever it is to its end, and the only place that waits for the device.

It knows the order of things: updates, looks at the clock, at signals and at the loss, the metrics of an
epoch, checkpoints. All that decides the next update is in the state and in the number of updates made; the
order of the images and their augmentation follow from that number and the seed. So a training that goes on
from a checkpoint makes the very updates that it would have made.

Of several processes, all take the same way through it: what depends on a clock is as process 0 has it, and a
signal to one of them is one to all. They save together.
"""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxdigits import mesh as meshes
from jaxdigits.checkpoint import Model
from jaxdigits.clock import Clock
from jaxdigits.config import TrainConfig, to_json
from jaxdigits.dataset import Split
from jaxdigits.distributed import anyone, together
from jaxdigits.errors import DataError, DivergedError
from jaxdigits.evaluate import Evaluation
from jaxdigits.executor import Pace
from jaxdigits.interrupts import Interrupted, Watch
from jaxdigits.last_snapshot import LastSnapshot
from jaxdigits.network import Params
from jaxdigits.programs import Programs
from jaxdigits.progress import EpochSums, Progress, progress, training_figures
from jaxdigits.runs import RunFolder
from jaxdigits.saver import Saver
from jaxdigits.snapshot import Record, Snapshot, host_copy
from jaxdigits.splits import Splits
from jaxdigits.step import zero_sums

__all__ = ["Loop"]

_LOOK = 0.25  # seconds between two looks at the device within an epoch: often enough for a live line


OnEpoch = Callable[[dict[str, Any]], None] | None
OnProgress = Callable[[Progress], None] | None


class Loop:
    """A training, at its beginning until `go_on` or `fit` takes it further.

    Args:
      config: what to do.
      splits: the images.
      programs: compiled for both.
      folder: where results go.
      clock: the time since the start.
      saver: writes checkpoints.
      watch: notes signals.

    Attributes:
      state: on the device.
      step: updates made.
      history: the metrics of each epoch.
      last: where it is saved.
      best: those of the epoch with the best validation so far, or None.
    """

    def __init__(
        self,
        config: TrainConfig,
        splits: Splits,
        programs: Programs,
        folder: RunFolder,
        clock: Clock,
        saver: Saver,
        watch: Watch,
    ):
        self.config, self.splits, self.programs, self.folder = config, splits, programs, folder
        self.clock, self.saver, self.watch = clock, saver, watch
        self.state, self.step = programs.initial, 0
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        self.best_params: Params | None = None
        self.last = LastSnapshot(folder.path, programs.mesh)
        self._epoch_seconds = 0.0  # of the epoch that has begun, before the last interruption
        self._saved: tuple[int | None, int | None] = (None, None)  # updates made at the last, and the best

    def go_on(self) -> None:
        """Takes up the training where the run folder's checkpoint has left it.

        Raises:
          DataError: the checkpoint is damaged, or the images are others now.
        """
        snapshot = self.last.load(self.programs.shapes, self.programs.shapes.params)
        if snapshot is None:  # killed before the first one: this is the beginning
            self.folder.write_metrics([])
            return
        record, each = snapshot.record, self.programs.updates_per_epoch
        if record.data != self.splits.digest:
            raise DataError(
                f"the images to train on are not those that the run {self.folder.path} began with"
            )
        if len(record.history) not in (record.step // each, math.ceil(record.step / each)):
            raise DataError(f"{self.last.path} contradicts itself; remove it to begin the run again")
        self.state, self.step = meshes.copies(self.programs.mesh, snapshot.state), record.step
        self.history, self.best, self.best_params = [*record.history], record.best, snapshot.best
        if self.step < self.programs.updates:  # a last epoch in part is now gone on with, and measured anew
            del self.history[self.step // each :]
        self._epoch_seconds = record.epoch_seconds
        self._saved = (self.step, None)
        self.clock.go_on(record.seconds)
        self.folder.write_metrics(self.history)

    def fit(self, on_epoch: OnEpoch, on_progress: OnProgress) -> str:
        """Trains on, and returns why it ended: `finished`, `time limit` or `early stop`.

        Raises:
          DivergedError: the loss is no longer finite.
          Interrupted: a signal came; the training is saved.
          StorageError: it cannot be saved.
        """
        limit, each = self.config.max_seconds, self.programs.updates_per_epoch
        interval = _LOOK if self.programs.executor.any_count else math.inf
        pace = Pace(interval, None if limit is None else self.clock.started + limit)
        while self.step < self.programs.updates:
            epoch = self.step // each
            sums = self._epoch(epoch, pace, on_progress)
            whole = self.step in (epoch * each + each, self.programs.updates)
            if not whole:  # the time has passed; who goes on does so within the epoch
                self._save(sums.seconds)
            self._end_epoch(self._metrics(epoch, sums), on_epoch)
            ended = self._ended(pace)
            if whole and (ended not in (None, "finished") or self._worth_saving()):
                self._save(sums.seconds if self.step % each else 0.0)
            if ended:
                return ended
            self.heed()
        return "finished"

    def _epoch(self, epoch: int, pace: Pace, on_progress: OnProgress) -> EpochSums:
        """Makes the updates of an epoch, as far as the deadline allows, and returns its sums."""
        began, self._epoch_seconds = time.perf_counter() - self._epoch_seconds, 0.0
        updates, each = self.programs.updates, self.programs.updates_per_epoch
        start, end = epoch * each, min(epoch * each + each, updates)
        data = self.programs.data_of(epoch)
        self.programs.prepare(epoch + 1)
        if self.step == start:
            self.state = self.state._replace(sums=zero_sums())
        while True:
            count = together(pace.updates(end - self.step))
            dispatched = time.perf_counter()
            self.state = self.programs.executor(self.state, data, count)
            loss, correct, images = jax.device_get(self.state.sums)  # waits for the device
            now = time.perf_counter()
            pace.took(count, now - dispatched)
            self.step += count
            sums = EpochSums(float(loss), int(correct), int(images), now - began)
            if not math.isfinite(sums.loss):
                raise self._diverged()
            if self.step == end or together(pace.over):
                return sums
            if together(self.saver.due()):
                self._save(sums.seconds)
            self.heed(sums.seconds)
            if on_progress:
                on_progress(progress(self.step, sums, updates, each, self.splits.taught))

    def _end_epoch(self, metrics: dict[str, Any], on_epoch: OnEpoch) -> None:
        """Keeps the metrics of an epoch, and its parameters if no epoch was validated better."""
        self.folder.add_metrics(metrics)
        self.history.append(metrics)
        if "validation_accuracy" in metrics and (self.best is None or _rank(metrics) > _rank(self.best)):
            self.best, self.best_params = metrics, host_copy(self.state.params)
        if on_epoch:
            on_epoch(metrics)

    def _ended(self, pace: Pace) -> str | None:
        """Why the training is over after this epoch; None if it is not."""
        if self.step == self.programs.updates:
            return "finished"
        if together(pace.over):
            return "time limit"
        patience = self.config.early_stop
        if patience and self.best and self.history[-1]["epoch"] - self.best["epoch"] >= patience:
            return "early stop"
        return None

    def _worth_saving(self) -> bool:
        """Whether to save at the end of this epoch. The last one needs it only if others were saved."""
        if self.step == self.programs.updates:
            return self._saved[0] is not None or bool(together(self.saver.due()))
        return bool(together(self.saver.due(epoch_end=True)))

    def _save(self, epoch_seconds: float = 0.0) -> None:
        """Begins to save the training as it is now.

        Args:
          epoch_seconds: spent on the epoch that has begun.
        """
        self.clock.lap("train")
        self.saver.save(lambda: self._copy(epoch_seconds))
        self._saved = (self.step, self.best["step"] if self.best else None)
        self.clock.lap("save")

    def _copy(self, epoch_seconds: float) -> Callable[[], None]:
        """Copies all that is to be saved, and returns what writes it, or waits until it is written."""
        best, params, best_saved = self.best, self.best_params, self._saved[1]
        record = Record(
            self.step, [*self.history], best, epoch_seconds, self.clock.total(), self.splits.digest
        )

        def write_best() -> None:
            """Before the rest: who resumes from that need not do it."""
            if best and params and best["step"] != best_saved:
                figures = {name: best[name] for name in ("epoch", "validation_loss", "validation_accuracy")}
                self.folder.save_best(self.model(params, figures))

        return self.last.save(Snapshot(host_copy(self.state), params, record), write_best)

    def heed(self, epoch_seconds: float = 0.0) -> None:
        """Ends the training if a signal has come.

        Args:
          epoch_seconds: spent on the epoch that has begun.

        Raises:
          Interrupted: one has; everything is saved.
          StorageError: one has, and nothing can be saved.
        """
        number = anyone(self.watch.number or 0)
        if not number:
            return
        if self._saved[0] != self.step:
            self._save(epoch_seconds)
        self.saver.wait()
        together(0)  # nobody leaves before it is saved
        done = f"{self.step:,} of {self.programs.updates:,} updates"
        raise Interrupted(
            number,
            f"interrupted after {done}, which are saved; "
            f"jaxdigits train --resume {self.folder.path} goes on from there",
        )

    def _diverged(self) -> DivergedError:
        advice = f"lower --learning-rate, which is {self.config.learning_rate:g}"
        if self.config.dtype == "bfloat16":
            advice += ", or use --dtype float32"
        return DivergedError(f"the loss is no longer finite after {self.step} updates; {advice}")

    def _metrics(self, epoch: int, sums: EpochSums) -> dict[str, Any]:
        metrics = {
            "epoch": epoch + 1,
            "step": self.step,
            "learning_rate": self.programs.learning_rate(self.step - 1),
            **training_figures(sums),
        }
        if self.splits.validation is not None:
            self.clock.lap("train")
            validation = self.measure(self.state.params, self.splits.validation)
            self.clock.lap("evaluate")
            metrics |= {"validation_loss": validation.loss, "validation_accuracy": validation.accuracy}
        return metrics

    def measure(self, params: Params, split: Split, views: int = 1) -> Evaluation:
        """Evaluates parameters.

        Args:
          params: on the device or on the host.
          split: what to measure on.
          views: how many views of each image to average over. One will do to follow a training.

        Raises:
          DivergedError: they are good for nothing.
        """
        evaluation = self.programs.evaluator(params, split.images, split.labels, views)
        evaluation = dataclasses.replace(evaluation, none_class=self.config.non_digits > 0)
        if not np.isfinite(evaluation.logits).all():
            raise self._diverged()
        return evaluation

    def model(
        self,
        params: Params,
        figures: dict[str, Any],
        temperature: float = 1.0,
        threshold: float | None = None,
    ) -> Model:
        """Parameters as a model that can be saved."""
        config = self.config
        return Model(
            params,
            config.channels,
            config.hidden,
            config.views,
            temperature,
            self.splits.class_names,
            self.splits.name,
            to_json(config),
            figures,
            none_class=config.non_digits > 0,
            threshold=threshold,
        )


def _rank(metrics: dict[str, Any]) -> tuple[float, float]:
    """The higher, the better validated: by accuracy, and by loss where that is the same."""
    return metrics["validation_accuracy"], -metrics["validation_loss"]
