"""A run that was interrupted, whenever and however, ends as if it had not been."""

import functools
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from jaxdigits import (
    DataError,
    DivergedError,
    StorageError,
    UsageError,
    kept,
    loop,
    resume,
    saver,
    train,
)
from jaxdigits.checkpoint import MODEL_FILE, load_model
from jaxdigits.config import resolve, to_json
from jaxdigits.executor import Executor
from jaxdigits.interrupts import Interrupted
from jaxdigits.last_snapshot import LAST_FILE
from jaxdigits.lock import LOCK_FILE, Lock, is_locked
from jaxdigits.plotter import Plotter
from jaxdigits.progress import Progress
from jaxdigits.runs import BEST_FILE
from jaxdigits.training import TrainResult

UPDATES = 3 * 10  # of the run below: 150 images to train on, in batches of 15


class Killed(BaseException):
    """Stands for a kill -9: nothing of the library's is done after it."""


DRAWN: dict[Path, dict[str, Any]] = {}  # what the figures of a run show


@pytest.fixture(scope="module", autouse=True)
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


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hundred pictures of noise, as IDX files."""
    folder = tmp_path_factory.mktemp("digits")
    random = np.random.default_rng(0)
    for stem, n in (("train", 200), ("t10k", 50)):
        images, labels = random.integers(0, 256, (n, 28, 28), np.uint8), np.arange(n, dtype=np.uint8) % 10
        sizes = b"".join(size.to_bytes(4, "big") for size in images.shape)
        (folder / f"{stem}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + sizes + images.tobytes())
        (folder / f"{stem}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + sizes[:4] + labels.tobytes())
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


@pytest.fixture(scope="module")
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

    compiled = Executor.of

    def fixed(*arguments: Any, any_count: bool) -> Executor:
        assert any_count  # as it is on a CPU
        return compiled(*arguments, any_count=False)

    monkeypatch.setattr(Executor, "of", fixed)
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


# Bit-identical, wherever it stopped.


@pytest.mark.usefixtures("every_update")
@pytest.mark.parametrize(("update", "stop"), [(1, kill), (9, interrupt), (11, kill), (28, interrupt)])
def test_a_run_that_stopped_ends_like_one_that_did_not(run, whole, tmp_path, update, stop):
    with pytest.raises((Interrupted, Killed)):
        run(on_progress=at(update, stop))
    assert resume.ended(tmp_path / "run") is None
    assert not (tmp_path / "run" / MODEL_FILE).exists()
    heard: list[str] = []
    ended = train(resume=str(tmp_path / "run"), say=heard.append)
    same(ended, whole)
    assert 0 < int(heard[-1].split(", ")[1].split()[0]) < UPDATES  # it did not begin again


@pytest.mark.usefixtures("every_update")
def test_a_run_may_stop_again_and_again(run, whole, tmp_path):
    with pytest.raises(Interrupted):
        run(on_progress=at(2, interrupt))
    for update in (5, 12, 17, 26):
        with pytest.raises((Interrupted, Killed)):
            train(resume=str(tmp_path / "run"), on_progress=at(update, interrupt if update % 2 else kill))
    same(train(resume=str(tmp_path / "run")), whole)


@pytest.mark.usefixtures("whole_epochs")
@pytest.mark.parametrize("stop", [interrupt, pytest.param(kill, marks=pytest.mark.slow)])
def test_a_run_of_whole_epochs_ends_like_one_that_did_not_stop(run, tmp_path, stop):
    undisturbed = run(run_dir=str(tmp_path / "undisturbed"))
    with pytest.raises((Interrupted, Killed)):
        run(on_epoch=at_epoch(2, stop))
    heard: list[str] = []
    same(train(resume=str(tmp_path / "run"), say=heard.append), undisturbed)
    assert int(heard[-1].split(", ")[1].split()[0]) in (10, 20)


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(run, whole, tmp_path):
    with pytest.raises(Killed):
        run(checkpoint_seconds=1000.0, on_epoch=lambda _: kill())
    assert not (tmp_path / "run" / LAST_FILE).exists()
    same(train(resume=str(tmp_path / "run"), checkpoint_seconds=0.0), whole)


def test_what_a_kill_leaves_half_written_is_cleared_away(run, whole, tmp_path):
    with pytest.raises(Interrupted):
        run(on_epoch=lambda _: interrupt())
    left = [tmp_path / "run" / name for name in (f".{LAST_FILE}.abc.tmp", f".{BEST_FILE}.abc.tmp", LOCK_FILE)]
    for path in left:
        path.write_bytes(b"half")
    with (tmp_path / "run" / "metrics.jsonl").open("a") as lines:
        lines.write('{"epoch": 2, "st')
    same(train(resume=str(tmp_path / "run")), whole)
    assert not any(path.exists() for path in left)


def test_the_best_is_on_the_disk_though_the_last_epoch_alone_was_resumed(run, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_rank", lambda metrics: metrics["epoch"])  # each is better than the one before
    with pytest.raises(Interrupted):
        run(checkpoint_seconds=1000.0, on_epoch=at_epoch(2, interrupt))
    train(resume=str(tmp_path / "run"))
    assert load_model(tmp_path / "run" / BEST_FILE).figures["epoch"] == 3


def test_a_short_run_that_ends_well_writes_no_checkpoint(tiny_run):
    assert tiny_run.summary["checkpoints"]["count"] == 0
    assert not (tiny_run.run_dir / LAST_FILE).exists()


# Which run, and under which configuration.


def test_a_field_that_differs_is_named(run, tmp_path):
    with pytest.raises(Interrupted):
        run(on_epoch=lambda _: interrupt())
    before = (tmp_path / "run" / LAST_FILE).read_bytes()
    others: dict[str, Any] = {"learning_rate": 0.5, "seed": 1, "epochs": 2, "early_stop": 3}
    for field, value in others.items():
        flag = f"--{field.replace('_', '-')} is {value}"
        with pytest.raises(UsageError, match=flag):
            train(resume=str(tmp_path / "run"), **{field: value})
    with pytest.raises(UsageError, match="--seed"):  # of several, one that can be mended
        train(resume=str(tmp_path / "run"), epochs=20, seed=1)
    assert (tmp_path / "run" / LAST_FILE).read_bytes() == before


def test_only_the_result_counts_as_a_difference(digits):
    config = resolve("fast")
    for field, value in (
        ("device", "cpu"),
        ("checkpoint_seconds", 1.0),
        ("plots", False),
        ("run_dir", "x"),
        ("resume", "y"),
    ):
        assert not resume.configs.differences(config, resolve(config, **{field: value}))
    assert resume.configs.differences(config, resolve(config, data_dir=str(digits))) == ["data_dir"]


def test_more_epochs_extend_a_run_under_the_schedule_of_all_of_them(whole, tmp_path):
    shutil.copytree(whole.run_dir, tmp_path / "run")
    with pytest.raises(UsageError, match=r"has ended \(finished\); more --epochs than 3"):
        train(resume=str(tmp_path / "run"))
    longer = train(resume=str(tmp_path / "run"), epochs=5)
    assert [timeless(metrics) for metrics in longer.history[:3]] == [*map(timeless, whole.history)]
    assert [metrics["step"] for metrics in longer.history] == [10, 20, 30, 40, 50]
    assert longer.history[3]["learning_rate"] > whole.history[2]["learning_rate"]
    assert longer.model.config["epochs"] == 5
    assert json.loads((tmp_path / "run" / "config.json").read_text())["epochs"] == 5


def test_auto_takes_the_newest_run_that_has_not_ended(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no interrupted run"):
        resume.find("auto", None)
    for age, name in enumerate(("newest", "used", "ended", "older", "no run")):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        if name != "no run":
            (folder / "config.json").write_text(json.dumps(to_json(resolve("fast"))))
            os.utime(folder / "config.json", (10**9 - age, 10**9 - age))
    assert resume.find("auto", None) == Path("runs/newest")
    (tmp_path / "runs" / "newest" / "summary.json").write_text('{"ended": "finished"}')
    lock = Lock(tmp_path / "runs" / "used")
    assert resume.find("auto", None) == Path("runs/ended")
    lock.release()
    assert resume.find("auto", None) == Path("runs/used")
    assert resume.find("auto", "runs/older") == Path("runs/older")
    assert resume.find("auto", "runs/none yet") is None
    with pytest.raises(UsageError, match="there is no run"):
        resume.find("runs/no run", None)


def test_auto_with_a_folder_begins_there_and_goes_on_there(run, whole):
    with pytest.raises(Interrupted):
        run(resume="auto", on_epoch=lambda _: interrupt())
    same(run(resume="auto"), whole)


def test_other_images_are_noticed(run, digits, tmp_path):
    with pytest.raises(Interrupted):
        run(on_epoch=lambda _: interrupt())
    images = digits / "train-images-idx3-ubyte"
    content = images.read_bytes()
    images.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        with pytest.raises(DataError, match="not those"):
            train(resume=str(tmp_path / "run"))
    finally:
        images.write_bytes(content)


# One run, one process.


def test_a_run_that_is_at_work_cannot_be_had(run, tmp_path):
    def another() -> None:
        others: list[dict[str, Any]] = [{name: str(tmp_path / "run")} for name in ("resume", "run_dir")]
        for fields in others:
            with pytest.raises(UsageError, match=r"in use by another training|not empty"):
                train(**fields)

    run(on_epoch=at_epoch(1, another))
    assert not is_locked(tmp_path / "run")


# How a run ends.


def test_early_stopping_keeps_the_best_weights(run, tmp_path):
    result = run(epochs=40, early_stop=2, learning_rate=0.05)
    assert result.summary["ended"] == "early stop"
    best = result.summary["best_epoch"]
    assert len(result.history) == best + 2
    top = max(metrics["validation_accuracy"] for metrics in result.history)
    assert result.history[best - 1]["validation_accuracy"] == top
    kept = load_model(tmp_path / "run" / BEST_FILE)
    assert kept.figures["epoch"] == best
    jax.tree.map(np.testing.assert_array_equal, kept.params, result.model.params)


@pytest.mark.slow
def test_early_stopping_is_resumed_like_all_else(run, tmp_path):
    fields = {"epochs": 40, "early_stop": 2, "learning_rate": 0.05}
    undisturbed = run(**fields, run_dir=str(tmp_path / "undisturbed"))
    stop = len(undisturbed.history) - 1  # the best is behind it
    with pytest.raises(Interrupted):
        run(**fields, on_epoch=at_epoch(stop, interrupt))
    same(train(resume=str(tmp_path / "run")), undisturbed)


def test_early_stopping_needs_a_validation():
    with pytest.raises(UsageError, match="--early-stop needs"):
        resolve("fast", early_stop=2)


@pytest.mark.usefixtures("every_update")
def test_a_run_that_its_time_ended_is_whole_and_can_go_on(run, tmp_path):
    began = time.perf_counter()
    result = run(max_seconds=0.001)
    assert (result.summary["ended"], result.summary["steps"]) == ("time limit", 1)
    assert (tmp_path / "run" / MODEL_FILE).exists()
    again = train(resume=str(tmp_path / "run"), started=began)
    assert again.summary["steps"] == 2
    assert [metrics["images"] for metrics in again.history] == [30]


@pytest.mark.usefixtures("every_update")
def test_a_run_that_diverges_leaves_its_last_good_checkpoint(run, tmp_path):
    with pytest.raises(DivergedError, match=f"last good checkpoint is .*{LAST_FILE}"):
        run(learning_rate=1e6, weight_decay=1.0, epochs=100)
    assert resume.ended(tmp_path / "run") == "diverged"
    with pytest.raises(UsageError, match="has ended"):
        train(resume=str(tmp_path / "run"))


def test_a_checkpoint_that_cannot_be_written_ends_the_run_and_the_one_before_is_good(
    run, whole, tmp_path, monkeypatch
):
    """As on a full disk: the file fails while it is flushed."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saver, "_GAP", 0.0)
    with monkeypatch.context() as patch:
        fill = at_epoch(2, lambda: patch.setattr(os, "fsync", full))
        with pytest.raises(StorageError, match="No space left"):
            run(on_epoch=fill)
    assert not list((tmp_path / "run").glob(".*"))
    same(train(resume=str(tmp_path / "run")), whole)


def test_a_run_folder_that_vanishes_is_one_line(run, tmp_path):
    with pytest.raises(StorageError, match="cannot write") as caught:
        run(on_epoch=lambda metrics: (tmp_path / "run").rename(tmp_path / f"gone{metrics['epoch']}"))
    assert "\n" not in str(caught.value)
