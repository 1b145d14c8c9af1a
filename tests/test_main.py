"""The command line: what it prints, what it leaves, and one line and a status for whatever is wrong."""

import csv
import dataclasses
import io
import json
import os
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

from jaxdigits import __main__ as command_line
from jaxdigits import dataset
from jaxdigits.__main__ import main
from jaxdigits.checkpoint import MODEL_FILE, load_model, save_model
from jaxdigits.config import PRESETS, TrainConfig, from_json
from jaxdigits.last_snapshot import LAST_FILE
from jaxdigits.prediction_report import PredictionReport
from jaxdigits.predictions import FIELDS, Prediction
from jaxdigits.report import TrainReport
from jaxdigits.runs import BEST_FILE
from jaxdigits.sources import sources
from jaxdigits.training import TrainResult
from tests.conftest import PACKAGED, ROOT, Python

FLAGS = [f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(TrainConfig)]
SMOKE = ("--preset", "fast", "--smoke", "--data-dir", str(PACKAGED))
RUN = {
    "config.json",
    "metrics.jsonl",
    "summary.json",
    MODEL_FILE,
    "history.png",
    "confusion.png",
    "mistakes.png",
}

Capture = pytest.CaptureFixture[str]


def refused(capsys: Capture, status: int, *arguments: object) -> str:
    """The line on standard error with which a command stops with this status, and the only one."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    assert stop.value.code == status
    assert re.fullmatch(r"jaxdigits: [^\n]+\n", output.err)
    return output.err


def weights(run: Path | TrainResult) -> bytes:
    model = load_model(run) if isinstance(run, Path) else run.model
    return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(model.params))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, mnist: dataset.Dataset) -> list[str]:
    folder = tmp_path_factory.mktemp("pictures")
    paths = [str(folder / f"{'long' * i}{i}.png") for i in range(3)]
    for path, image in zip(paths, mnist.test.images, strict=False):
        Image.fromarray(image[:, :, 0]).save(path)
    return paths


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


# Help.


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help_names_the_commands(capsys: Capture, arguments: list[str]):
    main(arguments)
    output = capsys.readouterr().out
    assert "jaxdigits train" in output
    assert "jaxdigits predict" in output


def test_help_of_train_names_every_flag(capsys: Capture):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--help"])
    assert stop.value.code == 0
    words = re.findall(r"--[\w-]+", capsys.readouterr().out)
    assert {*FLAGS, "--config", "--quiet"} <= set(words)


def test_help_of_predict_names_every_flag(capsys: Capture):
    with pytest.raises(SystemExit) as stop:
        main(["predict", "--help"])
    assert stop.value.code == 0
    output = capsys.readouterr().out
    flags = {"--model", "--json", "--csv", "--top", "--device", "--invert", "--raw", "--show-preprocessed"}
    assert flags <= set(re.findall(r"--[\w-]+", output))
    assert "PICTURE" in output


# Usage: status 2.


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("trian", "did you mean train?"),
        ("zzz", "expected train or predict"),
        ("--epochs 3", "no command"),
        ("train --bogus 1", "--bogus"),
        ("train stray", "stray"),
        ("train --epochs 0", "--epochs is 0; expected 1 to 100000"),
        ("train --epochs x", "--epochs"),
        ("train --epochs", "--epochs"),
        ("train --learning-rate nan", "--learning-rate"),
        ("train --label-smoothing 1", "--label-smoothing is 1.0; expected 0 to below 1"),
        ("train --channels 8", "--channels"),
        ("train --device tpu", "--device"),
        ("train --preset quick", "--preset"),
        ("train --preset fast --config x.json", "--config and --preset"),
        ("train --config missing.json", "cannot read the configuration missing.json"),
        ("predict", "picture"),
        ("predict --bogus a.png", "--bogus"),
        ("predict --device tpu a.png", "--device"),
        ("predict --invert maybe a.png", "--invert"),
        ("predict --json --csv a.png", "--json and --csv"),
        ("predict --top 0 a.png", "--top is 0; expected at least 1"),
        ("predict --number --csv a.png", "--number goes with none of"),
    ],
)
def test_wrong_usage(capsys: Capture, arguments: str, expected: str):
    assert expected in refused(capsys, 2, *arguments.split())


@pytest.mark.parametrize("flag", [*FLAGS, "--quiet", "--config"])
def test_a_misspelt_flag_names_the_nearest(capsys: Capture, flag: str):
    assert f"did you mean {flag}?" in refused(capsys, 2, "train", f"{flag[:-2]}{flag[-1]}", "1")


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


@pytest.mark.usefixtures("undrawn")
def test_another_seed_gives_other_weights(tmp_path: Path, tiny_run: TrainResult):
    config = str(tiny_run.run_dir / "config.json")
    main(["train", f"--config={config}", "--seed", "1", "--quiet", "--run-dir", str(tmp_path / "other")])
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


# What a prediction prints.


def test_predict_prints_a_line_a_picture(capsys: Capture, tiny_run: TrainResult, pictures, mnist):
    main(["predict", *pictures, "--model", str(tiny_run.run_dir)])
    output = capsys.readouterr()
    assert output.err == ""
    lines = output.out.splitlines()
    assert len(lines) == len(pictures)
    for line, picture in zip(lines, pictures, strict=True):
        file, digit, share = line.split()
        assert file == picture
        assert digit in "0123456789"
        assert re.fullmatch(r"\d+\.\d\d%", share)
        assert 10 <= float(share[:-1]) <= 100  # the largest of ten shares
    assert len({line.index(line.split()[1], len(max(pictures, key=len))) for line in lines}) == 1
    assert int(lines[0].split()[1]) == mnist.test.labels[0]  # a clear 7


def test_predict_prints_json(capsys: Capture, tiny_run: TrainResult, pictures):
    main(["predict", "--json", *pictures, "--model", str(tiny_run.run_dir / MODEL_FILE)])
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["source"] for answer in answers] == pictures
    for answer in answers:
        assert answer.keys() == {*FIELDS, "probabilities"}
        assert len(answer["probabilities"]) == 10
        assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)
        assert answer["probability"] == max(answer["probabilities"])
        assert answer["probabilities"].index(answer["probability"]) == answer["digit"]
        assert (answer["rejected"], answer["reason"]) == (False, "")


def test_predict_prints_csv(capsys: Capture, tmp_path: Path, tiny_run: TrainResult, pictures):
    odd = tmp_path / 'a "7", b.png'
    odd.write_bytes(Path(pictures[0]).read_bytes())
    model = ("--model", str(tiny_run.run_dir))
    main(["predict", "--json", *pictures, str(odd), *model])
    expected = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    main(["predict", "--csv", *pictures, str(odd), *model])
    output = capsys.readouterr().out
    assert output.count("\r\n") == output.count("\n") == 5
    rows = list(csv.DictReader(io.StringIO(output, newline="")))
    assert len(rows) == 4
    for row, answer in zip(rows, expected, strict=True):
        for digit, share in enumerate(answer.pop("probabilities")):
            answer[f"probability_{digit}"] = share
        assert row == {name: str(value) for name, value in answer.items()}


def test_csv_has_its_header_even_where_nothing_can_be_read(capsys: Capture, tmp_path: Path, tiny_run):
    with pytest.raises(SystemExit) as stop:
        main(["predict", "--csv", str(tmp_path / "missing.png"), "--model", str(tiny_run.run_dir)])
    assert stop.value.code == 3
    (header,) = csv.reader(capsys.readouterr().out.splitlines())
    assert header == [*FIELDS, *(f"probability_{digit}" for digit in range(10))]


@pytest.mark.parametrize("count", [1, 3, 10, 99])
def test_the_most_probable_are_listed_in_every_form(
    capsys: Capture, tiny_run: TrainResult, pictures, count: int
):
    arguments = [pictures[0], "--top", str(count), "--model", str(tiny_run.run_dir)]
    main(["predict", "--json", *arguments])
    answer = json.loads(capsys.readouterr().out)
    shares = answer["probabilities"]
    best = sorted(range(10), key=lambda digit: -shares[digit])[:count]
    assert answer["top"] == [
        {"digit": digit, "name": str(digit), "probability": shares[digit]} for digit in best
    ]
    main(["predict", *arguments])
    listed = [word for digit in best for word in (str(digit), f"{shares[digit]:.2%}")]
    assert capsys.readouterr().out.split() == [pictures[0], *listed]
    main(["predict", "--csv", *arguments])
    header, row = csv.reader(io.StringIO(capsys.readouterr().out, newline=""))
    assert len(header) == len(set(header)) == len(row)
    fields = dict(zip(header, row, strict=True))
    for place, digit in enumerate(best, 1):
        told = fields[f"top_{place}"], fields[f"top_{place}_probability"]
        assert told == (str(digit), str(shares[digit]))
    assert f"top_{len(best) + 1}" not in fields


def test_what_is_refused_is_marked_and_keeps_its_best_guess(
    capsys: Capture, tmp_path: Path, tiny_run: TrainResult, pictures
):
    save_model(tmp_path / MODEL_FILE, dataclasses.replace(tiny_run.model, threshold=1e9))
    arguments = [pictures[0], "--model", str(tmp_path)]
    main(["predict", "--json", *arguments])
    answer = json.loads(capsys.readouterr().out)
    assert (answer["digit"], answer["rejected"], answer["reason"]) == (7, True, "uncertain")
    main(["predict", *arguments])
    assert capsys.readouterr().out == f"{pictures[0]}  ?  uncertain (7  {answer['probability']:.2%})\n"
    main(["predict", *arguments, "--top", "2"])
    line = capsys.readouterr().out
    assert re.search(rf"\(7  \S+%  {answer['runner_up']}  \S+%\)$", line)
    main(["predict", "--number", *arguments])  # reads all the same
    assert capsys.readouterr().out == "7\n"


def test_a_folder_is_listed_once(
    capsys: Capture, tiny_run: TrainResult, pictures, monkeypatch: pytest.MonkeyPatch
):
    listed, walk = [], os.walk
    monkeypatch.setattr("os.walk", lambda name: (listed.append(name), walk(name))[1])
    main(["predict", str(Path(pictures[0]).parent), "--model", str(tiny_run.run_dir)])
    assert len(capsys.readouterr().out.splitlines()) == len(pictures)
    assert listed == [str(Path(pictures[0]).parent)]


def test_predict_takes_folders_patterns_and_standard_input(
    capsys: Capture, tmp_path: Path, tiny_run: TrainResult, pictures
):
    folder, model = Path(pictures[0]).parent, ("--model", str(tiny_run.run_dir))
    main(["predict", *sorted(pictures), *model])
    expected = capsys.readouterr().out
    main(["predict", str(folder), *model])
    assert capsys.readouterr().out == expected
    main(["predict", str(folder / "*.png"), *model])
    assert capsys.readouterr().out == expected
    with Path(pictures[0]).open("rb") as file:
        done = subprocess.run(
            [sys.executable, ROOT / "predict.py", "-", *model],
            stdin=file,
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("standard input  7  ")
    assert "holds no picture files" in refused(capsys, 3, "predict", tmp_path, *model)


def test_one_bad_picture_in_the_middle_leaves_the_others_and_status_3(
    capsys: Capture, tmp_path: Path, tiny_run: TrainResult, pictures
):
    (tmp_path / "text.png").write_text("no picture")
    mixed = [pictures[0], str(tmp_path / "text.png"), pictures[1], str(tmp_path / "missing.png"), pictures[2]]
    with pytest.raises(SystemExit) as stop:
        main(["predict", *mixed, "--model", str(tiny_run.run_dir)])
    assert stop.value.code == 3
    output = capsys.readouterr()
    assert [line.split()[0] for line in output.out.splitlines()] == list(pictures)
    first, second = output.err.splitlines()
    assert first.startswith(f"jaxdigits: {tmp_path / 'text.png'}: ")
    assert second.startswith(f"jaxdigits: {tmp_path / 'missing.png'}: ")


def test_a_damaged_file_is_one_line_even_where_its_library_says_more(
    python: Python, tmp_path: Path, tiny_run: TrainResult, pictures
):
    path = tmp_path / "damaged.tiff"
    Image.open(pictures[0]).resize((200, 200)).save(path, compression="tiff_lzw")
    data = bytearray(path.read_bytes())
    data[8:60] = bytes(52)
    path.write_bytes(data)
    done = python(ROOT / "predict.py", path, "--model", tiny_run.run_dir)
    assert done.returncode == 3
    assert re.fullmatch(r"jaxdigits: [^\n]+damaged\.tiff: [^\n]+\n", done.stderr)


def test_predict_says_what_is_blank_and_of_several_frames(
    capsys: Capture, tmp_path: Path, tiny_run: TrainResult, mnist
):
    frames = [Image.fromarray(image[:, :, 0]) for image in mnist.test.images[:3]]
    frames[0].save(tmp_path / "frames.gif", save_all=True, append_images=frames[1:])
    Image.new("L", (50, 50), 255).save(tmp_path / "white.png")
    main(["predict", str(tmp_path), "--model", str(tiny_run.run_dir)])
    output = capsys.readouterr()
    assert output.err == f"jaxdigits: {tmp_path / 'frames.gif'}: the first of several frames is read\n"
    first, second = output.out.splitlines()
    assert first.split()[1] == "7"
    assert second.split()[1:] == ["?", "blank"]


def test_polarity_and_raw_input_are_flags(capsys: Capture, tmp_path: Path, tiny_run: TrainResult, mnist):
    path = tmp_path / "inverted.png"
    Image.fromarray(255 - mnist.test.images[0, :, :, 0]).save(path)
    answers = []
    for flags in ([], ["--invert", "yes"], ["--raw"]):
        main(["predict", "--json", str(path), *flags, "--model", str(tiny_run.run_dir)])
        answers.append(json.loads(capsys.readouterr().out)["probabilities"])
    assert answers[0] == answers[1] != answers[2]
    Image.new("L", (30, 30)).save(path)
    assert "a raw image has 28x28" in refused(
        capsys, 3, "predict", path, "--raw", "--model", tiny_run.run_dir
    )


def test_the_strip_has_a_row_for_each_picture(capsys: Capture, tmp_path: Path, tiny_run: TrainResult, mnist):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(3):
        image = Image.fromarray(255 - mnist.test.images[i, :, :, 0]).resize((90, 90))
        image.save(folder / f"{i}.png")
    model = ("--model", str(tiny_run.run_dir))
    heights = []
    for given in ([folder / "0.png"], [folder]):
        main(["predict", *map(str, given), "--show-preprocessed", str(tmp_path / "strip.png"), *model])
        with Image.open(tmp_path / "strip.png") as strip:
            assert strip.width > 5 * 168
            heights.append(strip.height)
    assert 2.8 < heights[1] / heights[0] < 3.2
    assert len(capsys.readouterr().out.splitlines()) == 4
    refused(capsys, 6, "predict", folder, "--show-preprocessed", tmp_path / "no" / "strip.png", *model)


def test_a_bar_is_shown_on_a_terminal_for_many_pictures():
    prediction = Prediction("0.png", np.eye(10, dtype=np.float32)[1], 9.0, "", tuple("0123456789"))
    for terminal, count, shown in ((True, 200, True), (True, 5, False), (False, 200, False)):
        output = io.StringIO()
        console = Console(file=output, force_terminal=terminal)
        with PredictionReport(list(sources(["0.png"] * count)), 10, console=console) as report:
            report.on_prediction(prediction)
        assert ("pictures" in output.getvalue()) is shown


def test_the_script_prints_what_the_command_does(
    capsys: Capture, python: Python, tiny_run: TrainResult, pictures
):
    arguments = ["--json", *pictures, "--model", str(tiny_run.run_dir)]
    main(["predict", *arguments])
    done = python(ROOT / "predict.py", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == capsys.readouterr().out


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file names are text")
def test_a_file_name_that_is_no_text_is_printed_all_the_same(
    python: Python, tmp_path: Path, tiny_run: TrainResult, pictures
):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")
    Path(name).write_bytes(Path(pictures[0]).read_bytes())
    arguments = (ROOT / "predict.py", name, "--model", tiny_run.run_dir)
    done = python(*arguments, PYTHONIOENCODING="utf-8:strict")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{tmp_path}/\\udcff.png  ")


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


def test_no_flags_are_the_standard_preset():
    assert command_line._defaults([]).run == PRESETS["standard"]
    assert command_line._defaults(["--preset"]).run == PRESETS["standard"]
    assert command_line._defaults(["--quiet", "--preset", "fast"]).run == PRESETS["fast"]
    assert command_line._defaults(["--preset=fast"]).run == PRESETS["fast"]
