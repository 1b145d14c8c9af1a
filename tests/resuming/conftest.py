"""Small trainings that are interrupted, and what tells that they ended as if they had not been."""

import functools
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxdigits import compiling, kept, loop, saver, train
from jaxdigits.checkpoint import MODEL_FILE
from jaxdigits.plotter import Plotter
from jaxdigits.progress import Progress
from jaxdigits.runs import BEST_FILE
from jaxdigits.training import TrainResult
from tests.idx_files import small, write_idx

UPDATES = 3 * 10  # of the run below: 150 images to train on, in batches of 15


class Killed(BaseException):
    """Stands for a kill -9: nothing of the library's is done after it."""


DRAWN: dict[Path, dict[str, Any]] = {}  # what the figures of a run show


@pytest.fixture(scope="package", autouse=True)
def undrawn() -> Iterator[None]:
    """Notes what the figures would show: drawing them takes longer than these trainings."""

    def note(_: Plotter, folder: Path, figure: str, *values: Any):
        shown = [value.tolist() if isinstance(value, np.ndarray) else value for value in values]
        if figure == "history":
            shown = [timeless(dict(metrics)) for metrics in values[0]]
        DRAWN.setdefault(folder, {})[figure] = shown

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Plotter, "__enter__", lambda self: self)
        patch.setattr(Plotter, "__exit__", lambda *_: None)
        patch.setattr(Plotter, "draw", note)
        patch.setattr(Plotter, "wait", lambda _: None)
        yield


@pytest.fixture(scope="package")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hundred pictures of noise, as IDX files."""
    folder = tmp_path_factory.mktemp("digits")
    write_idx(folder, small(200, 50))
    return folder


def fields(digits: Path) -> dict[str, Any]:
    """Three epochs with everything that is random, and a checkpoint at every look."""
    network = {"channels": (4, 8), "hidden": 8, "max_shift": 1.0}
    return {
        "epochs": 3,
        "batch_size": 15,
        "validation": 50,
        "checkpoint_seconds": 0.0,
        "data_dir": str(digits),
    } | network


@pytest.fixture
def run(digits: Path, tmp_path: Path) -> Callable[..., TrainResult]:
    """Trains them."""
    return functools.partial(train, "fast", run_dir=str(tmp_path / "run"), **fields(digits))


@pytest.fixture(scope="package")
def whole(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """The same, undisturbed."""
    return train("fast", run_dir=str(tmp_path_factory.mktemp("whole") / "run"), **fields(digits))


@pytest.fixture
def every_update(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks up after each update, and saves there."""
    monkeypatch.setattr(loop, "_LOOK", 0.0)
    monkeypatch.setattr(saver, "_GAP", 0.0)


@pytest.fixture
def whole_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drives the step as on an accelerator: an epoch is one program."""
    monkeypatch.setattr(compiling, "one_for_all", lambda *_: False)
    monkeypatch.setattr(kept.Kept, "possible", lambda _: False)
    monkeypatch.setattr(saver, "_GAP", 0.0)


def at(update: int, act: Callable[[], Any]) -> Callable[[Progress], None]:
    """Does something once the training has made so many updates."""
    return lambda progress: act() if round(progress.fraction * UPDATES) == update else None


def at_epoch(epoch: int, act: Callable[[], Any]) -> Callable[[dict[str, Any]], None]:
    """Does something at the end of this epoch."""
    return lambda metrics: act() if metrics["epoch"] == epoch else None


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def kill() -> None:
    raise Killed


def timeless(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if name not in ("seconds", "images_per_second")}


def same(ours: TrainResult, theirs: TrainResult) -> None:
    """Asserts that two runs have come to the same end, bit for bit."""
    for name in (MODEL_FILE, BEST_FILE):
        if (theirs.run_dir / name).exists():
            assert (ours.run_dir / name).read_bytes() == (theirs.run_dir / name).read_bytes()
    assert [*map(timeless, ours.history)] == [*map(timeless, theirs.history)]
    assert DRAWN[ours.run_dir] == DRAWN[theirs.run_dir]
    lines = (ours.run_dir / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == ours.history
    for name in ("steps", "epochs", "train_accuracy", "test_accuracy", "test_calibration_error", "ended"):
        assert ours.summary[name] == theirs.summary[name]
