"""train(): from a configuration to a trained, measured and saved model in a run folder.

It puts the parts of a training together, and takes its last figures. What happens in between is in `loop`;
what a run folder is, and how a run is gone on with, in `runs` and `resume`.
"""

import contextlib
import ctypes
import dataclasses
import os
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdigits import device as devices
from jaxdigits import distributed, profiling
from jaxdigits import resume as resumes
from jaxdigits.checkpoint import Model
from jaxdigits.clock import Clock
from jaxdigits.config import Preset, TrainConfig, to_json
from jaxdigits.dataset import Split
from jaxdigits.errors import DeviceError, DivergedError, UsageError
from jaxdigits.evaluate import Evaluation, fit_temperature
from jaxdigits.interrupts import Watch, unwinding
from jaxdigits.kept import Kept, installed
from jaxdigits.loop import Loop
from jaxdigits.plotter import Plotter
from jaxdigits.presets import resolve
from jaxdigits.programs import Programs, ahead
from jaxdigits.progress import Progress
from jaxdigits.rejection import fit_threshold, score
from jaxdigits.runs import Onlooker, RunFolder, refuse_taken
from jaxdigits.saver import Saver
from jaxdigits.splits import Splits, load_splits

__all__ = ["Progress", "TrainResult", "train"]

_TRAIN_FIGURE = 10_000  # training images that the training accuracy is taken on: known to 0.1 points by them


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
    config: TrainConfig | Preset | None = None,
    *,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] | None = None,
    started: float | None = None,
    profile: str | os.PathLike[str] | None = None,
    **overrides: Any,
) -> TrainResult:
    """Trains a model and leaves it, with its figures and plots, in a run folder.

    Of several processes (see `distributed`), each is to call it alike. The first one alone writes results,
    and calls back; checkpoints are written by all, so that the run folder has to be one that all of them see.

    In Python's main thread, Ctrl-C and SIGTERM are waited with until what has been learnt is saved; a second
    one ends the process at once.

    Args:
      config: a configuration, or the name of a preset; by default that of the run that `resume` names, else
        the preset `standard`.
      on_epoch: called after each epoch with its metrics, as in `metrics.jsonl`.
      on_progress: called a few times a second within an epoch, on a CPU; an accelerator is left alone
        until the epoch is over.
      say: called with lines for people: the device, a cache that had to be mended.
      started: the `time.perf_counter` from which seconds count; by default now.
      profile: a folder for a trace of a few updates behind the training: see `profiling`.
      **overrides: fields of the configuration to replace.

    Raises:
      UsageError: a field is unknown or out of range, the run folder is taken, the run that is to go on was
        begun otherwise, or has ended; or processes differ in configuration, versions or data.
      DataError: the data set cannot be had, or is damaged; or the checkpoint is.
      DeviceError: the device cannot be had, or fails; or another process is gone.
      DivergedError: the loss is no longer finite.
      StorageError: something cannot be written.
      Interrupted: a KeyboardInterrupt, once the training is saved.
    """
    clock = Clock(time.perf_counter() if started is None else started)
    _hand_back_memory()
    config, resumed = _resolve(config, overrides)
    device = devices.select(config.device, deterministic=config.deterministic)
    if not distributed.first():
        on_epoch = on_progress = say = None
    say = say or (lambda _: None)
    say(f"Training on {devices.describe(device)}")
    clock.lap("startup")
    try:
        with distributed.one_line():
            _check(config, resumed)
            early = ahead(config, device, say)
            splits = _loaded(config, say)
            if not Kept.possible(device):  # writes: not before the configuration is known to be valid
                devices.enable_compilation_cache()
            with (
                Plotter() if config.plots and distributed.first() else contextlib.nullcontext() as plotter,
                _folder(config, resumed) as folder,
                Saver(config.checkpoint_seconds) as saver,
            ):
                clock.lap("data")
                programs = Programs(config, device, splits, early)
                clock.lap("compile")
                clock.move("compile", "train", programs.training_seconds)
                with Watch() as watch:
                    loop = Loop(config, splits, programs, folder, clock, saver, watch)
                    if resumed:
                        loop.go_on()
                        say(
                            f"Going on with {folder.path}, {loop.step:,} of {programs.updates:,} updates made"
                        )
                    return _run(loop, device, plotter, on_epoch, on_progress, profile)
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        cure = "; a smaller --batch-size needs less memory" if "RESOURCE_EXHAUSTED" in reason else ""
        raise DeviceError(f"{devices.describe(device)} failed: {reason}{cure}") from error


def _hand_back_memory() -> None:
    """Gives the memory that trainings before this one have freed back to the system, where it is glibc's.

    Each thread that compiles has an arena of malloc's to itself, which keeps what it once had: from
    training to training a process would grow by 4 to 10 MiB, though it holds no more. It is done at the
    beginning since a process that trains once then has nothing to give back, and need not wait at its end.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):  # not in musl
        trim(0)


def _resolve(config: TrainConfig | str | None, overrides: dict[str, Any]) -> tuple[TrainConfig, Path | None]:
    """The whole configuration, and the folder of the run to go on with, or None."""
    if config is None and isinstance(resume := overrides.get("resume"), str):
        folder = resumes.find(resume, overrides.get("run_dir"))
        if folder:
            given = {name: value for name, value in overrides.items() if name not in ("resume", "run_dir")}
            return resolve(resumes.begun_with(folder), **given), folder
    resolved = resolve(config or "standard", **overrides)
    return resolved, resumes.find(resolved.resume, resolved.run_dir) if resolved.resume else None


def _check(config: TrainConfig, resumed: Path | None) -> None:
    """Makes sure that the training can begin, and that all processes are about to do the same."""
    if resumed:
        resumes.check(resumed, config)
    else:
        refuse_taken(config)
    if jax.process_count() > 1:
        fields = to_json(config) | _versions()
        del fields["data_dir"]  # where it lies is each host's own matter; what is in it is compared
        distributed.agree(fields | {"resume": None if resumed is None else str(resumed)})


def _loaded(config: TrainConfig, say: Callable[[str], None]) -> Splits:
    """The images, which are the same in all processes."""
    with unwinding():  # a data set may have to be fetched
        splits = load_splits(config, say)
    if jax.process_count() > 1:
        distributed.agree({"dataset": splits.digest})
    if config.early_stop and splits.validation is None:
        raise UsageError("--early-stop: the data set is too small for images to validate on")
    return splits


def _folder(config: TrainConfig, resumed: Path | None) -> RunFolder:
    """The run folder: the first process claims it, and the others get to know where it is."""
    folder = RunFolder(config, resumed) if distributed.first() else None
    path = Path(distributed.word(str(folder.path) if folder else ""))
    unseen = distributed.anyone(0 if resumes.is_run(path) else 1 + jax.process_index())
    if unseen:
        raise UsageError(
            f"process {unseen - 1} does not see the run folder {path}; give a --run-dir on a file system "
            "that all processes share"
        )
    return folder or Onlooker(path)


def _run(
    loop: Loop,
    device: devices.Device,
    plotter: Plotter | None,
    on_epoch: Callable[[dict[str, Any]], None] | None,
    on_progress: Callable[[Progress], None] | None,
    profile: str | os.PathLike[str] | None,
) -> TrainResult:
    """Trains to the end, and leaves a summary whatever that is."""
    try:
        ended = loop.fit(on_epoch, on_progress)
        loop.clock.lap("train")
        if profile is not None:
            profiling.profile(profile, loop.programs.executor, loop.state, loop.programs.data_of(0))
            loop.clock.lap("profile")
        return _finish(loop, device, plotter, ended)
    except DivergedError as error:
        loop.saver.wait()
        loop.folder.finish(_summary(loop, device, "diverged", {}))
        distributed.together(0)  # nobody leaves before it is written
        if loop.last.path is None:
            raise
        raise DivergedError(f"{error}; the last good checkpoint is {loop.last.path}") from error


def _finish(loop: Loop, device: devices.Device, plotter: Plotter | None, ended: str) -> TrainResult:
    """Takes the final figures, and writes the model, the plots and the summary."""
    config, splits, folder, clock = loop.config, loop.splits, loop.folder, loop.clock
    params, temperature, threshold = loop.state.params, 1.0, None
    if plotter:
        plotter.draw(folder.path, "history", loop.history)
    if config.early_stop and loop.best_params is not None:
        params = loop.best_params
    test = loop.measure(params, splits.test, views=config.views)
    if plotter:
        plotter.draw(folder.path, "confusion", test.confusion, splits.class_names)
    loop.heed()
    if splits.validation is not None:
        held_out = loop.measure(params, splits.validation, views=config.views)
        temperature = fit_temperature(held_out)
        threshold = fit_threshold(score(held_out.logits, temperature, held_out.none_class))
        test = test.at(temperature)
    loop.heed()
    with ThreadPoolExecutor(max_workers=1) as pool:
        drawing = pool.submit(_draw_mistakes, plotter, loop, test) if plotter else None
        some = Split(*(a[:_TRAIN_FIGURE] for a in splits.train))
        figures = {
            "train_accuracy": loop.measure(params, some).accuracy,
            "test_accuracy": test.accuracy,
            "test_correct": test.correct,
            "test_total": test.total,
            "test_calibration_error": test.calibration_error,
        }
        clock.lap("evaluate")
        model = loop.model(jax.device_get(params), figures, temperature, threshold)
        folder.save_model(model)
        if drawing:
            drawing.result()
    loop.heed()
    loop.saver.wait()
    clock.lap("save")
    summary = _summary(loop, device, ended, figures)
    folder.finish(summary)
    return TrainResult(model, loop.history, summary, folder.path)


def _draw_mistakes(plotter: Plotter, loop: Loop, test: Evaluation) -> None:
    """Has the last of the figures drawn, and waits for all."""
    wrong = np.flatnonzero(test.predictions != test.labels)
    images = np.asarray(loop.splits.test.images[wrong])
    certainty = np.exp(test.log_probabilities.max(axis=1))[wrong]
    classes = test.labels[wrong], test.predictions[wrong]
    plotter.draw(
        loop.folder.path, "mistakes", images, *classes, certainty, loop.splits.class_names, test.total
    )
    plotter.wait()


def _summary(loop: Loop, device: devices.Device, ended: str, figures: dict[str, Any]) -> dict[str, Any]:
    """All about a run that has ended, as `summary.json` has it."""
    config, saver = loop.config, loop.saver
    return {
        "preset": config.preset,
        "seed": config.seed,
        "dataset": loop.splits.name,
        "data_dir": to_json(config)["data_dir"],
        "smoke": config.smoke,
        "device": devices.describe(device),
        "devices": loop.programs.mesh.size,
        "processes": jax.process_count(),
        "versions": _versions(),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(loop.state.params)),
        "epochs": round(loop.step / loop.programs.updates_per_epoch, 3),
        "steps": loop.step,
        "best_epoch": loop.best["epoch"] if loop.best else None,
        **figures,
        "seconds": loop.clock.total(),
        "checkpoints": {
            "count": saver.count,
            "seconds": round(saver.seconds, 4),
            "background_seconds": round(saver.background, 4),
        },
        "ended": ended,
    }


def _versions() -> dict[str, str]:
    """Of Python and of the packages that decide the result."""
    names = ("jaxdigits", "jax", "jaxlib", "flax", "optax", "numpy", "tensorflow-datasets")
    there = {name: installed(name) for name in names}  # not this library, where it is run from a clone
    return {"python": platform.python_version()} | {name: value for name, value in there.items() if value}
