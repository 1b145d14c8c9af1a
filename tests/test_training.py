import json
import platform
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from benchmarks.soak import observe
from jaxdigits import StorageError, UsageError, compiling, kept, plots, train
from jaxdigits.dataset import load
from jaxdigits.executor import Executor
from jaxdigits.last_snapshot import LAST_FILE
from jaxdigits.plotter import Plotter
from jaxdigits.presets import resolve
from jaxdigits.recognizer import Predictions, Recognizer
from jaxdigits.runs import RunFolder
from jaxdigits.splits import load_splits
from jaxdigits.training import Progress
from jaxdigits.whitening import whitened_filters

from .conftest import PACKAGED

SMALL = {"channels": (4, 8), "hidden": 8, "plots": False}  # a network for what does not depend on it


def smoke(folder, **overrides):
    return train("fast", smoke=True, data_dir=str(PACKAGED), run_dir=str(folder), **overrides)


def weights(result):
    return jax.tree.leaves(result.model.params)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_memory_that_was_freed_before_is_handed_back():
    with ThreadPoolExecutor(1) as pool:  # whose thread has an arena to itself
        kept = pool.submit(lambda: [bytes(4000) for _ in range(15_000)]).result()
        del kept[:-1]  # the last one keeps the arena from shrinking by itself
        before = observe()["mebibytes"]
        with pytest.raises(UsageError):
            train("fast", epochs=0)
        assert observe()["mebibytes"] < before - 30


def test_the_summary_adds_up(tiny_run):
    summary = tiny_run.summary
    assert summary["test_accuracy"] == summary["test_correct"] / summary["test_total"]
    assert summary["test_total"] == 1024
    assert summary["parameters"] == sum(leaf.size for leaf in weights(tiny_run))
    seconds = dict(summary["seconds"])
    assert seconds.pop("total") >= sum(seconds.values()) - 0.01
    assert summary["ended"] == "finished"
    assert json.loads((tiny_run.run_dir / "summary.json").read_text()) == summary
    lines = (tiny_run.run_dir / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == tiny_run.history
    assert tiny_run.history[0]["images"] == 2048


def test_callbacks_hear_of_every_epoch(tmp_path):
    epochs, progress = [], []
    overrides = {"data_dir": str(small_set(tmp_path)), "epochs": 3, "batch_size": 16, "validation": 30}
    result = train(
        "fast",
        run_dir=str(tmp_path / "run"),
        on_epoch=epochs.append,
        on_progress=progress.append,
        **overrides,
        **SMALL,
    )
    assert epochs == result.history
    assert [metrics["epoch"] for metrics in epochs] == [1, 2, 3]
    assert all(metrics["images"] == 170 and 0 <= metrics["validation_accuracy"] <= 1 for metrics in epochs)
    assert all(isinstance(p, Progress) and 0 < p.fraction < 1 and p.seconds_left >= 0 for p in progress)


def small_set(tmp_path):
    """A user's own 200 digits, as plain IDX files."""
    folder = tmp_path / "digits"
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for stem, n in (("train", 200), ("t10k", 50)):
        images = random.integers(0, 256, (n, 28, 28), np.uint8)
        labels = random.integers(0, 10, n).astype(np.uint8)
        sizes = b"".join(size.to_bytes(4, "big") for size in images.shape)
        (folder / f"{stem}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + sizes + images.tobytes())
        (folder / f"{stem}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + sizes[:4] + labels.tobytes())
    return folder


def test_a_run_folder_that_cannot_be_made_is_named_and_a_cure(tmp_path):
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "run"
    with pytest.raises(StorageError) as caught:
        train("fast", run_dir=str(place), data_dir=str(small_set(tmp_path)), **SMALL)
    assert str(caught.value) == (
        f"cannot make the run folder {place}: Not a directory; give another --run-dir"
    )


def test_on_an_accelerator_an_epoch_is_one_program(tmp_path, monkeypatch):
    made, compiled = [], Executor.of

    def noted(*arguments, any_count):
        made.append(compiled(*arguments, any_count=any_count))
        return made[-1]

    monkeypatch.setattr(Executor, "of", noted)
    monkeypatch.setattr(compiling, "one_for_all", lambda *_: False)
    monkeypatch.setattr(kept.Kept, "possible", lambda _: False)
    overrides = {"data_dir": str(small_set(tmp_path)), "epochs": 3, "batch_size": 16}
    result = train("fast", run_dir=str(tmp_path / "run"), **overrides, **SMALL)
    assert [metrics["images"] for metrics in result.history] == [200] * 3
    assert [set(executor._programs) for executor in made] == [{13}]


def test_the_first_convolution_whitens_the_images_of_the_run(tiny_run, mnist):
    kernel, bias = whitened_filters(mnist.train.images[:2048], tiny_run.model.channels[0])
    found = tiny_run.model.params["convs"][0]
    np.testing.assert_array_equal(found["kernel"], kernel)
    np.testing.assert_array_equal(found["bias"], bias)


@pytest.mark.parametrize("stem", ["tuned", "random"])
def test_a_first_convolution_that_is_trained_starts_where_it_should(tmp_path, stem):
    overrides = {"data_dir": str(small_set(tmp_path)), "stem": stem, "learning_rate": 1e-5, "epochs": 3}
    result = train("fast", run_dir=str(tmp_path / "run"), **overrides, **SMALL)
    images = load(data_dir=tmp_path / "digits").train.images
    kernel, bias = whitened_filters(images, result.model.channels[0])
    found = result.model.params["convs"][0]
    assert not np.array_equal(found["kernel"], kernel)
    assert not np.array_equal(found["bias"], bias)
    assert np.allclose(found["kernel"], kernel, atol=1e-3) == (stem == "tuned")
    assert np.allclose(found["bias"], bias, atol=1e-3) == (stem == "tuned")


@pytest.mark.parametrize("views", [5, 9])
def test_the_test_accuracy_is_that_of_the_model_with_its_views(tmp_path, mnist, views, monkeypatch):
    drawn = []
    monkeypatch.setattr(Plotter, "draw", lambda _self, _folder, name, *values: drawn.append((name, values)))
    result = smoke(tmp_path / "run", views=views)
    assert result.model.views == views
    predictions = Recognizer(result.model).predict(mnist.test.images[:1024])
    assert isinstance(predictions, Predictions)
    correct = (predictions.digits == mnist.test.labels[:1024]).sum()
    assert correct == result.summary["test_correct"]
    assert [name for name, _ in drawn] == ["history", "confusion", "mistakes"]
    (_,), (confusion, _), (images, *_) = (values for _, values in drawn)
    assert confusion.sum() - confusion.trace() == len(images) == 1024 - correct  # every mistake counts
    assert len(images) > 40  # more than there is room for


def test_a_short_run_that_ends_well_writes_no_checkpoint(tiny_run):
    assert tiny_run.summary["checkpoints"]["count"] == 0
    assert not (tiny_run.run_dir / LAST_FILE).exists()


def test_a_run_without_plots_is_the_same_but_for_them(tmp_path, tiny_run, monkeypatch):
    monkeypatch.setattr(Plotter, "__enter__", lambda _: pytest.fail("a process that draws was started"))
    result = smoke(tmp_path / "run", plots=False)
    names = {path.name for path in tiny_run.run_dir.iterdir()}
    assert names - {path.name for path in result.run_dir.iterdir()} == set(plots.FILES)
    for mine, theirs in zip(weights(result), weights(tiny_run), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert result.summary["test_correct"] == tiny_run.summary["test_correct"]


def test_two_runs_cannot_have_one_folder(tmp_path):
    config = resolve("fast", run_dir=str(tmp_path / "run"))
    with RunFolder(config), pytest.raises(UsageError, match="in use"):
        RunFolder(config)
    with pytest.raises(UsageError, match="taken by another run"):
        RunFolder(config)


def test_a_small_set_keeps_most_of_its_images_for_training(tmp_path):
    splits = load_splits(resolve("standard", data_dir=str(small_set(tmp_path))), lambda _: None)
    assert splits.validation
    assert [len(split.labels) for split in (splits.train, splits.validation, splits.test)] == [150, 50, 50]


@pytest.mark.parametrize(
    ("field", "value"), [("epochs", 0), ("epocs", 3), ("validation", -1), ("learning_rate", float("nan"))]
)
def test_a_bad_configuration_leaves_nothing_on_the_disk(tmp_path, field, value):
    with pytest.raises(UsageError):
        train("fast", run_dir=str(tmp_path / "run"), data_dir=str(PACKAGED), **{field: value})
    assert not list(tmp_path.iterdir())


def test_a_taken_folder_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        smoke(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_one_epoch_of_the_fast_preset_learns_mnist(tmp_path):
    result = train("fast", data_dir=str(PACKAGED), run_dir=str(tmp_path / "run"))
    assert result.summary["test_total"] == 10_000
    assert result.summary["test_accuracy"] > 0.98
