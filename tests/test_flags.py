"""The flags of the commands: each is told by the help, and what is wrong with one in a line."""

import dataclasses
import re

import pytest

from jaxdigits.__main__ import main
from jaxdigits.config import TrainConfig
from jaxdigits.flags import defaults
from jaxdigits.presets import PRESETS
from tests.commands import Capture, refused

FLAGS = [f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(TrainConfig)]


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


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("trian", "did you mean train?"),
        ("zzz", "expected train or predict"),
        ("--epochs 3", "no command"),
        ("train --bogus 1", "--bogus"),
        ("train stray", "stray"),
        ("train --epochs 0", "--epochs is 0.0; expected above 0, at most 100000"),
        ("train --epochs x", "--epochs"),
        ("train --epochs", "--epochs"),
        ("train --learning-rate nan", "--learning-rate"),
        ("train --label-smoothing 1", "--label-smoothing is 1.0; expected 0 to below 1"),
        ("train --channels 8", "--channels is (8,); expected 2 to 4 numbers"),
        ("train --channels 8 x", "--channels is 'x'; expected a whole number;"),
        ("train --devices 2x", "--devices is '2x'; expected a whole number or all;"),
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


@pytest.mark.parametrize("flag", [*FLAGS, "--no-plots", "--quiet", "--config"])
def test_a_misspelt_flag_names_the_nearest(capsys: Capture, flag: str):
    assert f"did you mean {flag}?" in refused(capsys, 2, "train", f"{flag[:-2]}{flag[-1]}", "1")


def test_no_flags_are_the_standard_preset():
    assert defaults([]).run == PRESETS["standard"]
    assert defaults(["--preset"]).run == PRESETS["standard"]
    assert defaults(["--quiet", "--preset", "fast"]).run == PRESETS["fast"]
    assert defaults(["--preset=fast"]).run == PRESETS["fast"]
