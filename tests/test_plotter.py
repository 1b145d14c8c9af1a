import io
import signal

import numpy as np
import pytest

from jaxdigits import child, plots
from jaxdigits.__main__ import main
from jaxdigits.errors import StorageError
from jaxdigits.plots import FILES, Figures
from jaxdigits.plotter import Plotter, ahead, serve
from tests.commands import SMOKE


@pytest.fixture
def figures():
    random = np.random.default_rng(0)
    counts = random.integers(0, 900, (10, 10))
    images = random.integers(0, 256, (5, 28, 28, 1), dtype=np.uint8)
    labels, predictions = random.integers(0, 10, (2, 5))
    history = [{"epoch": 1, "train_loss": 0.5, "train_accuracy": 0.9}]
    return Figures(history, counts, [*"0123456789"], images, labels, predictions, random.random(5), 1000)


def content(folder):
    return [(folder / name).read_bytes() for name in FILES]


@pytest.fixture
def expected(tmp_path, figures):
    folder = tmp_path / "expected"
    folder.mkdir()
    plots.draw_course(folder, figures.history)
    plots.draw_outcome(folder, figures)
    return content(folder)


def test_a_process_draws_what_this_one_would(tmp_path, figures, expected):
    with Plotter() as plotter:
        plotter.begin(tmp_path, figures.history)
        plotter.finish(tmp_path, figures)
        process = plotter._process
    assert content(tmp_path) == expected
    assert process is not None
    assert process.returncode == 0


def test_a_process_that_was_started_ahead_draws(tmp_path, figures, expected):
    with ahead(), Plotter() as plotter:
        plotter.begin(tmp_path, figures.history)
        plotter.finish(tmp_path, figures)
    assert content(tmp_path) == expected


def test_a_process_that_was_started_in_vain_is_ended(monkeypatch):
    started = []
    start = child.start
    monkeypatch.setattr(child, "start", lambda module: started.append(start(module)) or started[-1])
    with pytest.raises(KeyboardInterrupt), ahead():
        raise KeyboardInterrupt
    assert started[0].returncode == -signal.SIGKILL
    with ahead(), Plotter() as plotter:
        assert plotter._process is started[1]
    assert started[1].returncode == 0
    assert len(started) == 2


def test_none_is_started_for_a_run_without_plots(tmp_path, monkeypatch):
    monkeypatch.setattr(child, "start", lambda _: pytest.fail("it was"))
    main(["train", *SMOKE, "--max-updates", "1", "--quiet", "--no-plots", "--run-dir", str(tmp_path / "run")])
    assert not list((tmp_path / "run").glob("*.png"))


def test_a_process_that_was_killed_is_replaced_by_this_one(tmp_path, figures, expected):
    with Plotter() as plotter:
        assert plotter._process is not None
        plotter._process.send_signal(signal.SIGKILL)
        plotter._process.wait()
        plotter.begin(tmp_path, figures.history)
        plotter.finish(tmp_path, figures)
    assert content(tmp_path) == expected


def test_a_process_that_is_killed_in_between_is_replaced_by_this_one(tmp_path, figures, expected):
    with Plotter() as plotter:
        plotter.begin(tmp_path, figures.history)
        assert plotter._process is not None
        plotter._process.send_signal(signal.SIGKILL)
        plotter._process.wait()
        plotter.finish(tmp_path, figures)
    assert content(tmp_path) == expected


def test_a_process_that_cannot_be_started_is_replaced_by_this_one(tmp_path, figures, expected, monkeypatch):
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with Plotter() as plotter:
        plotter.begin(tmp_path, figures.history)
        plotter.finish(tmp_path, figures)
    assert content(tmp_path) == expected


def test_a_training_that_fails_waits_for_no_process():
    plotter = Plotter()
    with pytest.raises(KeyboardInterrupt), plotter:
        raise KeyboardInterrupt
    assert plotter._process is not None
    assert plotter._process.returncode == -signal.SIGKILL


def test_a_folder_that_is_gone_is_a_storage_error(tmp_path, figures):
    with Plotter() as plotter:
        plotter.begin(tmp_path / "gone", figures.history)
        with pytest.raises(StorageError, match="cannot write"):
            plotter.finish(tmp_path / "gone", figures)


def test_a_pipe_that_closes_ends_it():
    answers = io.BytesIO()
    serve(io.BytesIO(), answers)
    assert not answers.getvalue()


def test_no_mistakes_are_drawn_too(tmp_path, figures):
    none = figures._replace(
        images=figures.images[:0], labels=figures.labels[:0], predictions=figures.predictions[:0],
        certainty=figures.certainty[:0],
    )  # fmt: skip
    with Plotter() as plotter:
        plotter.begin(tmp_path, none.history)
        plotter.finish(tmp_path, none)
    assert all(picture.startswith(b"\x89PNG") for picture in content(tmp_path))
