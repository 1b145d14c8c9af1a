"""Which flags of the benchmarks are refused, by name and with status 2."""

import importlib
from types import SimpleNamespace
from typing import get_args

import pytest
import tyro

from benchmarks import mutations
from benchmarks.hostile import READERS, ReaderName


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        *((name, "--rounds") for name in ("forms", "gpu_compile", "limit", "predict_speed", "scaling")),
        *((name, "--seeds") for name in ("ablation", "one_minute", "time_to_accuracy")),
        *(("ablation", flag) for flag in ("--epochs", "--last")),
        *((name, "--pages") for name in ("fit_reading", "pages")),
        *(("checkpoints", "--turns"), ("faults", "--every"), ("kills", "--kills"), ("limit", "--updates")),
        *(("corruptions", "--images"), ("outliers", "--count"), ("fuzz_pictures", "--count")),
    ],
)
@pytest.mark.parametrize("value", ["0", "-1", "some"])
def test_of_none_nothing_is_measured(name: str, flag: str, value: str, capsys: pytest.CaptureFixture[str]):
    module = importlib.import_module(f"benchmarks.{name}")
    with pytest.raises(SystemExit) as ended:
        tyro.cli(module.Arguments, args=[flag, value])
    assert ended.value.code == 2
    assert flag in capsys.readouterr().err
    assert getattr(tyro.cli(module.Arguments, args=[flag, "3"]), flag.strip("-")) == 3


@pytest.mark.parametrize(
    ("name", "flag", "least"),
    [
        *((name, "--seed", 0) for name in ("corruptions", "fuzz_pictures", "handwriting", "kills")),
        *((name, "--seed", 0) for name in ("fit_reading", "mutations", "outliers", "pages")),
        *(("one_minute", "--cold", 0), ("soak", "--trainings", 5), ("soak", "--predictions", 5000)),
    ],
)
def test_less_than_makes_sense_is_refused(
    name: str, flag: str, least: int, capsys: pytest.CaptureFixture[str]
):
    module = importlib.import_module(f"benchmarks.{name}")
    with pytest.raises(SystemExit) as ended:
        tyro.cli(module.Arguments, args=[flag, str(least - 1)])
    assert ended.value.code == 2
    assert flag in capsys.readouterr().err
    arguments = vars(tyro.cli(module.Arguments, args=[flag, str(least)]))
    assert (arguments | vars(arguments.get("counts", SimpleNamespace())))[flag.strip("-")] == least


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "all"])
def test_a_share_is_above_0(value: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        tyro.cli(mutations.Arguments, args=["--scale", value])
    assert ended.value.code == 2
    assert "--scale" in capsys.readouterr().err
    assert tyro.cli(mutations.Arguments, args=["--scale", "0.1"]).scale == 0.1


def test_a_reader_of_hostile_input_may_be_named():
    assert get_args(ReaderName) == tuple(READERS)
    assert tyro.cli(mutations.Arguments, args=["--readers", "idx", "flags"]).readers == ("idx", "flags")


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        *(("time_to_accuracy", "--ours"), ("time_to_accuracy", "--peers"), ("faults", "--kinds")),
        ("mutations", "--readers"),
    ],
)
def test_what_there_is_not_is_refused_by_name(name: str, flag: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        tyro.cli(importlib.import_module(f"benchmarks.{name}").Arguments, args=[flag, "fastest"])
    assert ended.value.code == 2
    assert flag in capsys.readouterr().err
