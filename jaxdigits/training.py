"""train(): from a configuration to a trained, measured and saved model in a run folder.

The loop, and the only place that waits for the device. It knows the order of things and keeps the
time; what each thing is, the modules that it calls know.
"""

import contextlib
import dataclasses
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdigits import config as configs
from jaxdigits import dataset as datasets
from jaxdigits import device as devices
from jaxdigits import mesh as meshes
from jaxdigits import profiling
from jaxdigits.checkpoint import Model
from jaxdigits.config import TrainConfig
from jaxdigits.dataset import Dataset, Split
from jaxdigits.errors import DeviceError, DivergedError
from jaxdigits.evaluate import Evaluation, Evaluator, fit_temperature
from jaxdigits.executor import Executor, Pace
from jaxdigits.model import build, fastest_form
from jaxdigits.optimizer import make_optimizer, make_schedule
from jaxdigits.runs import RunFolder, refuse_taken
from jaxdigits.step import Data, TrainState, epoch_order, init_state, make_update, zero_sums
from jaxdigits.whitening import whitened_filters

__all__ = ["Progress", "TrainResult", "train"]

_LOOK = 0.25  # seconds between two looks at the device within an epoch: often enough for a live line
_SMOKE = (2048, 1024)  # training and test images of a smoke run


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a training is, in the middle of an epoch.

    Attributes:
      epoch: the epoch that runs, from 1.
      epochs: how many there are to be.
      fraction: how much of the whole training is done, from 0 to 1.
      loss: mean training loss of the epoch so far, in nats.
      accuracy: training accuracy of the epoch so far, from 0 to 1, on augmented images.
      images_per_second: speed of the epoch so far.
      seconds_left: estimate for the rest of the training.
    """

    epoch: int
    epochs: int
    fraction: float
    loss: float
    accuracy: float
    images_per_second: float
    seconds_left: float


@dataclasses.dataclass(frozen=True, eq=False)
class TrainResult:
    """What a training leaves.

    Attributes:
      model: the trained model, as it lies in the run folder.
      history: one mapping an epoch, as in `metrics.jsonl`.
      summary: as in `summary.json`.
      run_dir: the run folder.
    """

    model: Model
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    run_dir: Path


def train(
    config: TrainConfig | configs.Preset = "standard",
    *,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] | None = None,
    started: float | None = None,
    profile: str | os.PathLike[str] | None = None,
    **overrides: Any,
) -> TrainResult:
    """Trains a model and leaves it, with its figures and plots, in a run folder.

    Args:
      config: a configuration, or the name of a preset.
      on_epoch: called after each epoch with its metrics, as in `metrics.jsonl`.
      on_progress: called a few times a second within an epoch, on a CPU; an accelerator is left alone
        until the epoch is over.
      say: called with lines for people: the device, a cache that had to be mended.
      started: the `time.perf_counter` from which seconds count; by default now.
      profile: a folder for a trace of a few updates behind the training: see `profiling`.
      **overrides: fields of the configuration to replace.

    Raises:
      UsageError: a field is unknown or out of range, or the run folder is taken.
      DataError: the data set cannot be had, or is damaged.
      DeviceError: the device cannot be had, or fails.
      DivergedError: the loss is no longer finite.
      StorageError: something cannot be written.
    """
    clock = _Clock(time.perf_counter() if started is None else started)
    config = configs.resolve(config, **overrides)
    say = say or (lambda _: None)
    device = devices.select(config.device, deterministic=config.deterministic)
    devices.enable_compilation_cache()
    say(f"Training on {devices.describe(device)}")
    clock.lap("startup")
    try:
        refuse_taken(config)
        data = _load(config, say)
        folder = RunFolder(config)
        clock.lap("data")
        run = _Run(config, device, data, folder, clock)
        clock.lap("compile")
        history = run.fit(on_epoch, on_progress)
        clock.lap("train")
        if profile is not None:
            profiling.profile(profile, run.executor, run.state, run.resident)
            clock.lap("profile")
        return run.finish(history)
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        cure = "; a smaller --batch-size needs less memory" if "RESOURCE_EXHAUSTED" in reason else ""
        raise DeviceError(f"{devices.describe(device)} failed: {reason}{cure}") from error


class _Clock:
    """Splits the time since a start into named laps.

    Args:
      started: a time of `time.perf_counter`.
    """

    def __init__(self, started: float):
        self.started = self._last = started
        self.seconds: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """Gives the time since the last lap this name."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now

    def total(self) -> dict[str, float]:
        """All laps so far, and the whole."""
        laps = self.seconds | {"total": time.perf_counter() - self.started}
        return {name: round(seconds, 3) for name, seconds in laps.items()}


@dataclasses.dataclass(frozen=True)
class _Splits:
    """The images of a run: what is trained on, what is held out, what is tested on."""

    name: str
    train: Split
    validation: Split | None
    test: Split
    class_names: tuple[str, ...]


def _load(config: TrainConfig, say: Callable[[str], None]) -> _Splits:
    """Loads the data set and takes the validation images out of its training split."""
    data: Dataset = datasets.load(config.dataset, config.data_dir, say=say)
    train_split, test = data.train, data.test
    if config.smoke:
        train_split, test = (
            Split(*(a[:n] for a in s)) for s, n in zip((train_split, test), _SMOKE, strict=True)
        )
    held_out = min(config.validation, len(train_split.labels) // 4)
    if not held_out:
        return _Splits(data.name, train_split, None, test, data.class_names)
    # The same images whatever the seed, so that the validation of runs can be compared.
    order = np.random.default_rng(0).permutation(len(train_split.labels))
    kept, held = np.sort(order[held_out:]), np.sort(order[:held_out])
    return _Splits(
        data.name,
        Split(*(a[kept] for a in train_split)),
        Split(*(a[held] for a in train_split)),
        test,
        data.class_names,
    )


class _Sums(NamedTuple):
    """`step.Sums` on the host."""

    loss: float
    correct: int
    images: int


class _Run:
    """A training with its compiled programs.

    Args:
      config: what to do.
      device: where.
      data: the images.
      folder: where its results go.
      clock: the time since the start.
    """

    def __init__(
        self, config: TrainConfig, device: devices.Device, data: _Splits, folder: RunFolder, clock: _Clock
    ):
        self.config, self.device, self.data, self.folder, self.clock = config, device, data, folder, clock
        n = len(data.train.labels)
        self.updates_per_epoch = math.ceil(n / config.batch_size)
        self.updates = min(self.updates_per_epoch * config.epochs, config.max_updates or sys.maxsize)
        self.schedule = jax.jit(make_schedule(config, self.updates))
        self.mesh = meshes.make_mesh(meshes.choose(config.devices, device))
        everywhere, shares = meshes.replicated(self.mesh), self.mesh.shape["data"]
        keys = jax.jit(lambda seed: tuple(jax.random.split(jax.random.key(seed))), out_shardings=everywhere)
        self.order_key, self.augment_key = keys(np.uint32(config.seed))
        self._order = jax.jit(
            lambda key, epoch: epoch_order(key, epoch, n, config.batch_size, shares),
            out_shardings=meshes.along(self.mesh, None, "data"),
        )
        self._compile()

    def _compile(self) -> None:
        """Compiles all programs, and takes data and state to the device, side by side.

        The programs are compiled from shapes alone, so none need wait for another's result.
        """
        config, data, platform = self.config, self.data, self.device.platform
        sizes = (config.channels, config.hidden, len(data.class_names))
        fixed = config.stem == "whitened"
        network = build(*sizes, form=fastest_form(platform), dtype=config.dtype, fixed_stem=fixed)
        optimizer = make_optimizer(config, self.updates)
        everywhere, epoch = meshes.replicated(self.mesh), np.int32(0)
        init = jax.jit(lambda params: init_state(params, optimizer), out_shardings=everywhere)
        images = meshes.resident(self.mesh, data.train.images)
        labels = meshes.resident(self.mesh, data.train.labels.astype(np.int32))
        shapes = Data(images, labels, jax.eval_shape(self._order, self.order_key, epoch), self.augment_key)
        state: TrainState = meshes.shapes_on(everywhere, jax.eval_shape(init, network.shapes))
        any_count = platform == "cpu" or config.max_seconds is not None
        share = self.mesh.shape["data"]
        update = make_update(network, optimizer, config, 128 * share if platform == "cpu" else None)
        self.executor = Executor(update, state, shapes, any_count=any_count)
        portion = 64 if platform == "cpu" else 4096
        with ThreadPoolExecutor(max_workers=3) as pool:
            compiling = pool.submit(self.executor.compile, min(self.updates_per_epoch, self.updates))
            evaluator = pool.submit(Evaluator, network, state.params, 4096, portion, self.mesh)
            stem = None if config.stem == "random" else whitened_filters(data.train.images, sizes[0][0])
            starting = pool.submit(init, network.init(config.seed, stem))
            self.resident = shapes._replace(order=self._order(self.order_key, epoch))
            self.state: TrainState = starting.result()
            self.evaluator = evaluator.result()
            compiling.result()
        jax.block_until_ready(self.resident)

    def fit(
        self,
        on_epoch: Callable[[dict[str, Any]], None] | None,
        on_progress: Callable[[Progress], None] | None,
    ) -> list[dict[str, Any]]:
        """Trains to the end, or to the time limit, and returns the metrics of each epoch."""
        limit = self.config.max_seconds
        interval = _LOOK if self.executor.any_count else math.inf
        pace = Pace(interval, None if limit is None else self.clock.started + limit)
        history = []
        for epoch in range(math.ceil(self.updates / self.updates_per_epoch)):
            began = time.perf_counter()
            sums = self._epoch(epoch, pace, on_progress)
            metrics = self._metrics(epoch, sums, time.perf_counter() - began)
            self.folder.add_metrics(metrics)
            history.append(metrics)
            if on_epoch:
                on_epoch(metrics)
            if pace.over:
                break
        return history

    def _epoch(self, epoch: int, pace: Pace, on_progress: Callable[[Progress], None] | None) -> "_Sums":
        """Makes the updates of an epoch, as far as the deadline allows, and returns its sums."""
        began = time.perf_counter()
        order = self._order(self.order_key, np.int32(epoch))
        self.resident = self.resident._replace(order=order)
        self.state = self.state._replace(sums=zero_sums())
        done, most = 0, min(self.updates_per_epoch, self.updates - epoch * self.updates_per_epoch)
        while True:
            count = pace.updates(most - done)
            dispatched = time.perf_counter()
            self.state = self.executor(self.state, self.resident, count)
            loss, correct, images = jax.device_get(self.state.sums)  # waits for the device
            pace.took(count, time.perf_counter() - dispatched)
            done += count
            sums = _Sums(float(loss), int(correct), int(images))
            if not math.isfinite(sums.loss):
                raise self._diverged(epoch * self.updates_per_epoch + done)
            if done == most or pace.over:
                return sums
            if on_progress:
                fraction = (epoch * self.updates_per_epoch + done) / self.updates
                on_progress(self._progress(epoch, fraction, sums, time.perf_counter() - began))

    def _diverged(self, updates: int) -> DivergedError:
        advice = f"lower --learning-rate, which is {self.config.learning_rate:g}"
        if self.config.dtype != "float32":
            advice += ", or use --dtype float32"
        return DivergedError(f"the loss is no longer finite after {updates} updates; {advice}")

    def _progress(self, epoch: int, fraction: float, sums: "_Sums", seconds: float) -> Progress:
        speed = sums.images / seconds
        left = self.updates / self.updates_per_epoch - epoch  # epochs
        left = left * len(self.data.train.labels) - sums.images
        return Progress(
            epoch=epoch + 1,
            epochs=math.ceil(self.updates / self.updates_per_epoch),
            fraction=fraction,
            loss=sums.loss / sums.images,
            accuracy=sums.correct / sums.images,
            images_per_second=speed,
            seconds_left=left / speed,
        )

    def _metrics(self, epoch: int, sums: "_Sums", seconds: float) -> dict[str, Any]:
        step = int(self.state.step)
        metrics = {
            "epoch": epoch + 1,
            "step": step,
            "images": sums.images,
            "train_loss": sums.loss / sums.images,
            "train_accuracy": sums.correct / sums.images,
            "learning_rate": float(self.schedule(step - 1)),
            "seconds": round(seconds, 3),
            "images_per_second": round(sums.images / seconds, 1),
        }
        if self.data.validation is not None:
            self.clock.lap("train")
            validation = self.measure(self.data.validation)
            self.clock.lap("evaluate")
            metrics |= {"validation_loss": validation.loss, "validation_accuracy": validation.accuracy}
        return metrics

    def measure(self, split: Split, views: int = 1) -> Evaluation:
        """Evaluates the weights as they are now.

        Args:
          split: what to measure on.
          views: how many views of each image to average over. One will do to follow a training.

        Raises:
          DivergedError: they are good for nothing.
        """
        evaluation = self.evaluator(self.state.params, split.images, split.labels, views)
        if not np.isfinite(evaluation.logits).all():
            raise self._diverged(int(self.state.step))
        return evaluation

    def finish(self, history: list[dict[str, Any]]) -> TrainResult:
        """Takes the final figures, and writes the model, the plots and the summary."""
        config, names = self.config, self.data.class_names
        temperature = 1.0
        if self.data.validation is not None:
            temperature = fit_temperature(self.measure(self.data.validation, views=config.views))
        test = self.measure(self.data.test, views=config.views).at(temperature)
        with ThreadPoolExecutor(max_workers=1) as pool:  # Python draws while the device measures
            drawing = pool.submit(self.folder.draw, history, self.data.test.images, test, names)
            figures = {
                "train_accuracy": self.measure(self.data.train).accuracy,
                "test_accuracy": test.accuracy,
                "test_correct": test.correct,
                "test_total": test.total,
                "test_calibration_error": test.calibration_error,
            }
            self.clock.lap("evaluate")
            params = jax.device_get(self.state.params)
            fields = configs.to_json(config)
            sizes = (config.channels, config.hidden, config.views, temperature)
            model = Model(params, *sizes, names, self.data.name, fields, figures)
            self.folder.save_model(model)
            drawing.result()
        self.clock.lap("save")
        step = int(self.state.step)
        summary = {
            "preset": config.preset,
            "seed": config.seed,
            "dataset": self.data.name,
            "data_dir": configs.to_json(config)["data_dir"],
            "smoke": config.smoke,
            "device": devices.describe(self.device),
            "versions": _versions(),
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
            "epochs": round(step / self.updates_per_epoch, 3),
            "steps": step,
            **figures,
            "seconds": self.clock.total(),
            "stopped_early": step < self.updates,
            "stop_reason": "max_seconds" if step < self.updates else "finished",
        }
        self.folder.finish(summary)
        return TrainResult(model, history, summary, self.folder.path)


def _versions() -> dict[str, str]:
    """Of Python and of the packages that decide the result."""
    names = ("jaxdigits", "jax", "jaxlib", "flax", "optax", "numpy", "tensorflow-datasets")
    versions = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):  # of this library, run from a clone
            versions[name] = version(name)
    return versions
