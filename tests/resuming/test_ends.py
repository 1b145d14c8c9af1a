"""How a run ends: early, in time, in divergence, on a full disk; and what is left to go on with."""

import os
import time

import jax
import numpy as np
import pytest

from jaxdigits import DivergedError, StorageError, UsageError, resume, saver, train
from jaxdigits.checkpoint import MODEL_FILE, load_model
from jaxdigits.interrupts import Interrupted
from jaxdigits.last_snapshot import LAST_FILE
from jaxdigits.presets import resolve
from jaxdigits.runs import BEST_FILE
from tests.resuming.conftest import at_epoch, interrupt, same


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
