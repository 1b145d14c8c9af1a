"""Figures are whole PNG files, the same for the same numbers, whatever the numbers are."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxdigits import plots
from jaxdigits.errors import StorageError


def epochs(count, validation=True):
    rows = []
    for epoch in range(1, count + 1):
        row = {"epoch": epoch, "train_loss": 0.9 / epoch, "train_accuracy": 1 - 0.2 / epoch}
        row |= {"learning_rate": 0.01, "seconds": 1.0}
        if validation:
            row |= {"validation_loss": 0.3 / epoch, "validation_accuracy": 1 - 0.05 / epoch}
        rows.append(row)
    return rows


def counts(k):
    random = np.random.default_rng(k)
    return random.poisson(0.7, (k, k)) + np.diag(random.integers(900, 1100, k))


def wrong(m):
    random = np.random.default_rng(m)
    images = random.integers(0, 256, (m, 28, 28, 1), np.uint8)
    return images, random.integers(0, 10, m), random.integers(0, 10, m), random.uniform(0.3, 1, m)


def check(path):
    """Is a whole PNG of readable size with something on it."""
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert picture.width >= 400
        assert np.asarray(picture.convert("L")).std() > 1


@pytest.mark.parametrize("count", [1, 2, 14])
@pytest.mark.parametrize("validation", [True, False])
def test_history(tmp_path, count, validation):
    plots.history(tmp_path / "history.png", epochs(count, validation))
    check(tmp_path / "history.png")


@pytest.mark.parametrize(
    "change",
    [
        {"validation_accuracy": 1.0},  # no error: nothing for a log scale
        {"train_loss": float("nan"), "validation_loss": float("inf")},
        {"train_loss": 1e-9},
        {"train_accuracy": 0.0},
    ],
)
@pytest.mark.parametrize("count", [1, 5])
def test_history_at_its_limits(tmp_path, change, count):
    rows = epochs(count)
    rows[-1] |= change
    plots.history(tmp_path / "history.png", rows)
    check(tmp_path / "history.png")


def test_history_with_validation_now_and_then(tmp_path):
    rows = epochs(6)
    del rows[0]["validation_loss"], rows[3]["validation_accuracy"]
    plots.history(tmp_path / "history.png", rows)
    plots.history(tmp_path / "none.png", [])
    check(tmp_path / "history.png")
    check(tmp_path / "none.png")


@pytest.mark.parametrize("k", [2, 3, 10, 12, 13, 26, 47, 62])
def test_confusion(tmp_path, k):
    plots.confusion(tmp_path / "confusion.png", counts(k), [str(name) for name in range(k)])
    check(tmp_path / "confusion.png")


@pytest.mark.parametrize(
    "matrix", [np.zeros((5, 5), int), 9 * np.eye(5, dtype=int), 9 * np.eye(5, dtype=int)[::-1]]
)
def test_confusion_at_its_limits(tmp_path, matrix):
    plots.confusion(
        tmp_path / "confusion.png", matrix, ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"]
    )
    check(tmp_path / "confusion.png")


@pytest.mark.parametrize("m", [0, 1, 7, 40, 123])
def test_mistakes(tmp_path, m):
    plots.mistakes(tmp_path / "mistakes.png", *wrong(m), [*"0123456789"], 10_000)
    check(tmp_path / "mistakes.png")


def test_only_the_most_confident_mistakes_are_drawn(tmp_path):
    images, labels, predictions, _ = wrong(60)
    probabilities = np.linspace(1, 0, 60)
    plots.mistakes(tmp_path / "a.png", images, labels, predictions, probabilities, [*"0123456789"], 100)
    images[40:] = 0
    plots.mistakes(tmp_path / "b.png", images, labels, predictions, probabilities, [*"0123456789"], 100)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def draw_all(folder):
    plots.history(folder / "history.png", epochs(3))
    plots.confusion(folder / "confusion.png", counts(10), [*"0123456789"])
    plots.mistakes(folder / "mistakes.png", *wrong(5), [*"0123456789"], 10_000)


def test_the_same_numbers_give_the_same_bytes(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    draw_all(tmp_path / "a")
    draw_all(tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    assert len(list((tmp_path / "a").iterdir())) == 3


def test_a_missing_folder_is_a_storage_error_and_leaves_nothing(tmp_path):
    with pytest.raises(StorageError, match=r"no/history\.png"):
        plots.history(tmp_path / "no" / "history.png", epochs(2))
    with pytest.raises(StorageError):
        plots.confusion(tmp_path / "no" / "confusion.png", counts(3), [*"abc"])
    with pytest.raises(StorageError):
        plots.mistakes(tmp_path / "no" / "mistakes.png", *wrong(2), [*"0123456789"], 10)
    assert not list(tmp_path.iterdir())


def test_pyplot_stays_out_and_matplotlib_waits(tmp_path):
    code = (
        "import sys, jaxdigits.plots as plots; assert 'matplotlib' not in sys.modules; "
        "plots.confusion(sys.argv[1], plots.np.eye(3, dtype=int), 'abc'); "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "c.png"], check=False).returncode == 0
