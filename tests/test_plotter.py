import io
import signal
from typing import Any

import numpy as np
import pytest

from jaxdigits import child, plots
from jaxdigits.__main__ import main
from jaxdigits.errors import StorageError
from jaxdigits.plots import FILES, FigureName
from jaxdigits.plotter import Plotter, ahead, serve
from tests.commands import SMOKE


@pytest.fixture
def figures():
    """What each figure is drawn from."""
    return drawn_from()


def drawn_from() -> dict[FigureName, Any]:
    random = np.random.default_rng(0)
    counts = random.integers(0, 900, (10, 10))
    images = random.integers(0, 256, (5, 28, 28, 1), dtype=np.uint8)
    labels, predictions = random.integers(0, 10, (2, 5))
    history = [{"epoch": 1, "train_loss": 0.5, "train_accuracy": 0.9}]
    names = tuple("0123456789")
    return {
        "history": (history,),
        "confusion": (counts, names),
        "mistakes": (images, labels, predictions, random.random(5), names, 1000),
    }


def content(folder):
    return [(folder / name).read_bytes() for name in FILES]


def draw(plotter, folder, figures):
    for name, values in figures.items():
        plotter.draw(folder, name, *values)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("expected")
    for name, values in drawn_from().items():
        plots.draw(folder, name, *values)
    return content(folder)


def test_a_process_draws_what_this_one_would(tmp_path, figures, expected):
    with Plotter() as plotter:
        draw(plotter, tmp_path, figures)
        plotter.wait()
        process = plotter._process
    assert content(tmp_path) == expected
    assert process is not None
    assert process.returncode == 0


def test_a_process_that_was_started_ahead_draws(tmp_path, figures, expected):
    with ahead(), Plotter() as plotter:
        draw(plotter, tmp_path, figures)
        plotter.wait()
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
    assert started[1].returncode in (0, -signal.SIGKILL)  # that, if it took too long to come to its end
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
        draw(plotter, tmp_path, figures)
        plotter.wait()
    assert content(tmp_path) == expected


def test_a_process_that_is_killed_in_between_is_replaced_by_this_one(tmp_path, figures, expected):
    with Plotter() as plotter:
        history = {"history": figures.pop("history")}
        draw(plotter, tmp_path, history)
        assert plotter._process is not None
        plotter._process.send_signal(signal.SIGKILL)
        plotter._process.wait()
        draw(plotter, tmp_path, figures)
        plotter.wait()
    assert content(tmp_path) == expected


def test_a_process_that_cannot_be_started_is_replaced_by_this_one(tmp_path, figures, expected, monkeypatch):
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with Plotter() as plotter:
        draw(plotter, tmp_path, figures)
        plotter.wait()
    assert content(tmp_path) == expected


def test_a_training_that_fails_waits_for_no_process():
    plotter = Plotter()
    with pytest.raises(KeyboardInterrupt), plotter:
        raise KeyboardInterrupt
    assert plotter._process is not None
    assert plotter._process.returncode == -signal.SIGKILL


def test_a_folder_that_is_gone_is_a_storage_error(tmp_path, figures):
    with Plotter() as plotter:
        draw(plotter, tmp_path / "gone", figures)
        with pytest.raises(StorageError, match="cannot write"):
            plotter.wait()


def test_a_pipe_that_closes_ends_it():
    answers = io.BytesIO()
    serve(io.BytesIO(), answers)
    assert not answers.getvalue()


def test_no_mistakes_are_drawn_too(tmp_path, figures):
    images, labels, predictions, certainty, *others = figures["mistakes"]
    none = (images[:0], labels[:0], predictions[:0], certainty[:0], *others)
    with Plotter() as plotter:
        draw(plotter, tmp_path, figures | {"mistakes": none})
        plotter.wait()
    assert all(picture.startswith(b"\x89PNG") for picture in content(tmp_path))
