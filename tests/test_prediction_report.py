"""`jaxdigits predict`: what it prints of pictures, in each form, and of those that cannot be read."""

import csv
import dataclasses
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from jaxdigits.__main__ import main
from jaxdigits.checkpoint import MODEL_FILE, save_model
from jaxdigits.prediction_report import PredictionReport
from jaxdigits.predictions import FIELDS, Prediction
from jaxdigits.sources import sources
from jaxdigits.training import TrainResult
from tests.commands import Capture, refused
from tests.conftest import ROOT, Python


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
