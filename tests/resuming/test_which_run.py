"""Which run goes on, under which configuration, and that no two processes have it."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from jaxdigits import DataError, UsageError, resume, train
from jaxdigits.config import differences, to_json
from jaxdigits.interrupts import Interrupted
from jaxdigits.last_snapshot import LAST_FILE
from jaxdigits.lock import Lock, is_locked
from jaxdigits.presets import resolve
from tests.resuming.conftest import at_epoch, interrupt, same, timeless


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
        assert not differences(config, resolve(config, **{field: value}))
    assert differences(config, resolve(config, data_dir=str(digits))) == ["data_dir"]


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


@pytest.mark.usefixtures("every_update")
@pytest.mark.parametrize("epochs", [2, 1.8])
def test_more_epochs_go_on_within_the_epoch_that_was_trained_in_part(run, tmp_path, epochs):
    begun = run(epochs=1.4)
    assert [(metrics["step"], metrics["images"]) for metrics in begun.history] == [(10, 150), (14, 60)]
    assert begun.summary["epochs"] == 1.4
    with pytest.raises(UsageError, match=r"more --epochs than 1\.4 extend it"):
        train(resume=str(tmp_path / "run"))
    longer = train(resume=str(tmp_path / "run"), epochs=epochs)
    last = round(10 * epochs)
    assert [(metrics["step"], metrics["images"]) for metrics in longer.history] == [
        (10, 150),
        (last, 15 * last - 150),
    ]
    assert timeless(longer.history[0]) == timeless(begun.history[0])
    assert longer.history[1]["seconds"] > begun.history[1]["seconds"]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == longer.history


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


def test_a_run_that_is_at_work_cannot_be_had(run, tmp_path):
    def another() -> None:
        others: list[dict[str, Any]] = [{name: str(tmp_path / "run")} for name in ("resume", "run_dir")]
        for fields in others:
            with pytest.raises(UsageError, match=r"in use by another training|not empty"):
                train(**fields)

    run(on_epoch=at_epoch(1, another))
    assert not is_locked(tmp_path / "run")
