"""The command line: what it prints, what it leaves, and one line and a status for whatever is wrong."""

import io
import json
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from jaxdigits import dataset
from jaxdigits.__main__ import main
from jaxdigits.checkpoint import MODEL_FILE, load_model
from jaxdigits.last_snapshot import LAST_FILE
from jaxdigits.presets import from_json
from jaxdigits.report import TrainReport
from jaxdigits.runs import BEST_FILE
from jaxdigits.training import TrainResult
from tests.commands import SMOKE, Capture, refused
from tests.conftest import ROOT, Python

RUN = {
    "config.json",
    "metrics.jsonl",
    "summary.json",
    MODEL_FILE,
    "history.png",
    "confusion.png",
    "mistakes.png",
}


def weights(run: Path | TrainResult) -> bytes:
    model = load_model(run) if isinstance(run, Path) else run.model
    return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(model.params))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Piped(NamedTuple):
    """A training in a process of its own, through `train.py`, its output into a pipe."""

    run_dir: Path
    output: str
    error: str


@pytest.fixture(scope="module")
def piped(tmp_path_factory: pytest.TempPathFactory, python: Python) -> Piped:
    folder = tmp_path_factory.mktemp("piped")
    done = python(ROOT / "train.py", *SMOKE, "--run-dir", "a/run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return Piped(folder / "a" / "run", done.stdout, done.stderr)


@pytest.fixture(scope="module")
def small_set(tmp_path_factory: pytest.TempPathFactory, mnist: dataset.Dataset) -> Path:
    """A folder with the first 600 training and 100 test images of MNIST."""
    folder = tmp_path_factory.mktemp("small")
    for stem, split, n in (("train", mnist.train, 600), ("t10k", mnist.test, 100)):
        for name, array in (
            ("images-idx3", split.images[:n, :, :, 0]),
            ("labels-idx1", split.labels[:n]),
        ):
            head = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (folder / f"{stem}-{name}-ubyte").write_bytes(head + array.astype(np.uint8).tobytes())
    return folder


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help_names_the_commands(capsys: Capture, arguments: list[str]):
    main(arguments)
    output = capsys.readouterr().out
    assert "jaxdigits train" in output
    assert "jaxdigits predict" in output


def test_a_folder_that_holds_something_is_refused_and_kept(
    capsys: Capture, tmp_path: Path, tiny_run: TrainResult
):
    (tmp_path / "kept").write_text("kept")
    for folder in (tmp_path, tiny_run.run_dir):
        before = content(folder)
        assert "is not empty" in refused(capsys, 2, "train", *SMOKE, "--run-dir", folder)
        assert content(folder) == before


# Other errors: a status each.


def test_what_cannot_be_read_is_status_3(capsys: Capture, tmp_path: Path, tiny_run: TrainResult, pictures):
    model = ("--model", tiny_run.run_dir)
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    for name in ("missing.png", "text.png", "empty.png", "folder.png"):
        assert name in refused(capsys, 3, "predict", pictures[0], tmp_path / name, *model)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes((tiny_run.run_dir / MODEL_FILE).read_bytes()[:-1])
    for path in (damaged, tmp_path / "missing", tmp_path, pictures[0]):
        refused(capsys, 3, "predict", pictures[0], "--model", path)
    refused(capsys, 3, "train", "--data-dir", tmp_path, "--run-dir", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="there is a GPU")
def test_a_missing_gpu_is_status_4(capsys: Capture, tmp_path: Path, tiny_run: TrainResult, pictures):
    refused(capsys, 4, "train", *SMOKE, "--device", "gpu", "--run-dir", tmp_path / "run")
    refused(capsys, 4, "predict", pictures[0], "--device", "gpu", "--model", tiny_run.run_dir)
    assert not (tmp_path / "run").exists()


def test_a_diverging_run_is_status_5_and_leaves_no_model(capsys: Capture, tmp_path: Path):
    arguments = (*SMOKE, "--learning-rate", 1e6, "--weight-decay", 1, "--quiet")
    assert "lower --learning-rate" in refused(capsys, 5, "train", *arguments, "--run-dir", tmp_path / "run")
    assert not (tmp_path / "run" / MODEL_FILE).exists()
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["ended"] == "diverged"


def test_a_folder_that_cannot_be_made_is_status_6(capsys: Capture, tmp_path: Path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / ("a" * 300)):
        refused(capsys, 6, "train", *SMOKE, "--run-dir", path)


@pytest.mark.parametrize(
    ("status", "arguments"),
    [(2, ["train.py", "--epoch", "3"]), (2, ["predict.py"]), (3, ["predict.py", "missing.png"])],
)
def test_a_script_stops_with_one_line_and_the_status(
    python: Python, status: int, arguments: list[str], tiny_run: TrainResult
):
    model = ("--model", tiny_run.run_dir) if status == 3 else ()
    done = python(ROOT / arguments[0], *arguments[1:], *model)
    assert done.returncode == status
    assert done.stdout == ""
    assert re.fullmatch(r"jaxdigits: [^\n]+\n", done.stderr)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_output_that_cannot_be_written_is_status_6(python: Python):
    code = "import sys; sys.stdout = open('/dev/full', 'w'); from jaxdigits.__main__ import main; main([])"
    done = python("-c", code)
    assert done.returncode == 6
    assert re.fullmatch(r"jaxdigits: cannot write the output: [^\n]+\n", done.stderr)


# What a training leaves.


def test_a_run_folder_is_complete(piped: Piped, tiny_run: TrainResult):
    for folder in (piped.run_dir, tiny_run.run_dir):
        assert {path.name for path in folder.iterdir()} == RUN
        for name in ("history.png", "confusion.png", "mistakes.png"):
            with Image.open(folder / name) as figure:
                figure.verify()
    summary = json.loads((piped.run_dir / "summary.json").read_text())
    assert summary.keys() >= {"preset", "seed", "dataset", "device", "versions", "parameters", "epochs"}
    assert summary.keys() >= {"train_accuracy", "test_accuracy", "test_correct", "test_total"}
    assert summary["seconds"].keys() >= {"startup", "data", "compile", "train", "evaluate", "total"}
    laps = {name: seconds for name, seconds in summary["seconds"].items() if name != "total"}
    assert all(seconds >= 0 for seconds in laps.values())
    assert sum(laps.values()) == pytest.approx(summary["seconds"]["total"], abs=0.1)
    assert (summary["preset"], summary["seed"], summary["dataset"]) == ("fast", 0, "mnist")
    assert summary["ended"] == "finished"
    assert summary["test_total"] == 1024
    assert summary["parameters"] == len(weights(piped.run_dir)) // 4
    assert summary["versions"].keys() >= {"python", "jax", "flax", "optax", "numpy"}
    assert from_json(piped.run_dir / "config.json") == from_json(tiny_run.run_dir / "config.json")


def test_the_figures_do_not_depend_on_the_way_the_training_was_called(piped: Piped, tiny_run: TrainResult):
    summary = json.loads((piped.run_dir / "summary.json").read_text())
    for name in ("test_correct", "test_accuracy", "train_accuracy", "parameters", "steps"):
        assert summary[name] == tiny_run.summary[name]
    assert weights(piped.run_dir) == weights(tiny_run)  # bit for bit, in another process


def test_piped_output_is_plain_and_narrow(piped: Piped):
    assert "\x1b" not in piped.output
    assert "\r" not in piped.output
    assert piped.error == ""
    lines = piped.output.splitlines()
    assert sum(line.startswith("epoch 1/1 ") for line in lines) == 1
    assert all(len(line) <= 80 for line in lines)
    summary = json.loads((piped.run_dir / "summary.json").read_text())
    assert f"{summary['test_accuracy']:.2%}" in piped.output
    assert lines[-1] == f"The run lies in {Path('a') / 'run'}"


@pytest.mark.parametrize("epoch", [1, 14])
def test_the_line_of_an_epoch_fits_80_columns(epoch: int):
    metrics = {"epoch": epoch, "train_loss": 2.345678, "train_accuracy": 1.0, "validation_accuracy": 1.0}
    output = io.StringIO()
    with TrainReport(14, console=Console(file=output, highlight=False, soft_wrap=True)) as report:
        report.on_epoch(metrics | {"images_per_second": 99_999.9, "seconds": 599.9})
        report.on_epoch(metrics | {"images_per_second": 9_999_999.4, "seconds": 0.123})
    lines = output.getvalue().splitlines()
    assert len(lines) == 2
    assert max(map(len, lines)) <= 80


def test_runs_without_a_name_get_folders_of_their_own_with_all_epochs(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_set: Path
):
    monkeypatch.chdir(tmp_path)
    flags = ("--epochs", "3", "--batch-size", "50", "--validation", "100", "--channels", "4", "8")
    for _ in range(2):
        main(["train", "--preset", "fast", "--data-dir", str(small_set), *flags])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 6
    assert max(map(len, lines)) <= 80
    runs = list((tmp_path / "runs").iterdir())
    assert [content(run).keys() for run in runs] == [RUN | {LAST_FILE, BEST_FILE}] * 2
    for run in runs:
        history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert [metrics["epoch"] for metrics in history] == [1, 2, 3]
        assert [metrics["step"] for metrics in history] == [10, 20, 30]
        for metrics in history:
            assert metrics["images"] == 500
            assert 0 <= metrics["train_accuracy"] <= 1
            assert 0 <= metrics["validation_accuracy"] <= 1
        assert json.loads((run / "summary.json").read_text())["epochs"] == 3


def test_a_quiet_run_of_the_same_configuration_prints_nothing_and_is_the_same(
    capsys: Capture, tmp_path: Path, tiny_run: TrainResult
):
    config = str(tiny_run.run_dir / "config.json")
    main(["train", "--config", config, "--quiet", "--run-dir", str(tmp_path / "again")])
    assert capsys.readouterr() == ("", "")
    assert weights(tmp_path / "again") == weights(tiny_run)
    assert content(tmp_path / "again")["config.json"] == content(tiny_run.run_dir)["config.json"]
    summary = json.loads((tmp_path / "again" / "summary.json").read_text())
    for name in ("train_accuracy", "test_accuracy", "test_correct", "steps"):
        assert summary[name] == tiny_run.summary[name]


def test_another_seed_gives_other_weights(tmp_path: Path, tiny_run: TrainResult):
    config = str(tiny_run.run_dir / "config.json")
    flags = ("--seed", "1", "--quiet", "--no-plots", "--run-dir", str(tmp_path / "other"))
    main(["train", f"--config={config}", *flags])
    assert weights(tmp_path / "other") != weights(tiny_run)
    assert from_json(tmp_path / "other" / "config.json").seed == 1


def test_a_run_that_is_out_of_time_stops_and_leaves_all(capsys: Capture, tmp_path: Path):
    run = tmp_path / "run"
    main(["train", *SMOKE, "--max-seconds", "0.001", "--run-dir", str(run)])
    assert "Stopped early" in capsys.readouterr().out
    assert content(run).keys() == RUN | {LAST_FILE}
    summary = json.loads((run / "summary.json").read_text())
    assert summary["ended"] == "time limit"
    assert summary["steps"] == 1
    load_model(run)


@pytest.mark.parametrize("command", ["train", "predict"])
def test_a_reader_that_has_gone_is_no_traceback(
    command: str, tmp_path: Path, tiny_run: TrainResult, pictures
):
    arguments = {
        "train": [*SMOKE, "--run-dir", str(tmp_path / "run")],
        "predict": [*pictures, "--json", "--model", str(tiny_run.run_dir)],
    }[command]
    process = subprocess.Popen(
        [sys.executable, ROOT / f"{command}.py", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    with process, process.stderr:
        error = process.stderr.read()
    assert error == ""
    assert process.returncode in (0, 1)
