"""How the benchmarks add up and keep what they measure: nothing is timed here."""

import dataclasses
import json
import sys
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from benchmarks import (
    operations,
    predict_speed,
    protocol,
    speed_tables,
    step_parts,
    tables,
    targets,
    time_to_accuracy,
)
from benchmarks.peers import Epoch, contestant
from benchmarks.time_to_accuracy import reached
from jaxdigits.dataset import Dataset
from jaxdigits.model import build
from jaxdigits.optimizer import make_optimizer
from jaxdigits.presets import resolve
from jaxdigits.step import Data, Portion, init_state, make_update


def a_run(name: str, seconds: float, **more: object) -> dict[str, object]:
    return {
        "contestant": name,
        "views": 5,
        "network": [[16, 64, 64], 128],
        "batch_seconds": [seconds, 100 * seconds, seconds],
        "single_seconds": [1e-3] * 9 + [1.0],
        "peak_memory_mib": 400.0,
    } | more


def test_figures_of_prediction_and_its_goals(monkeypatch: pytest.MonkeyPatch):
    runs = [
        a_run("predict.py", 0, caches="cold", wall_seconds=3.0, peak_memory_mib=501.0),
        a_run("predict.py", 0, caches="warm", wall_seconds=2.0, peak_memory_mib=300.0),
        a_run("jaxdigits", 0.2, photograph_seconds=[2.1e-3], small_file_seconds=[1e-3], array_seconds=[1e-3]),
        a_run("pytorch", 0.1),
        a_run("keras_tensorflow", 0.4),
    ]
    summary = predict_speed.summarise(runs)
    ours = summary["contestants"]["jaxdigits"]
    assert ours["images_per_second"]["mean"] == pytest.approx(predict_speed.BATCH / 0.2)
    assert ours["single_seconds"]["median"] == pytest.approx(1.0)
    assert ours["photograph_seconds"]["n"] == 1
    result = minute(225, 0.9966, 32.5) | {"summary": summary, "runs": runs}
    assert told(targets.PREDICT, result, monkeypatch) == [
        "1.00", "1.00", "**2.10, missed**", "**3.0, missed**", "**0.50, missed**", "**501, missed**",
    ]  # fmt: skip


def test_calls_that_warm_up_do_not_count():
    calls: list[int] = []
    assert len(predict_speed.timed(calls.append, 1, n=3, before=2)) == 3
    assert calls == [1] * 5


def test_of_a_peers_process_only_what_came_before_an_accuracy_counts():
    run = {
        "train_seconds": [10.0, 20.0, 30.0],
        "test_accuracy": [0.97, 0.985, 0.99],
        "seconds_before_end": [24.0, 12.0, 0.0],
        "wall_seconds": 45.0,
    }
    assert reached(run, 0.98) == (20.0, 33.0)
    assert reached(run, 0.985) == (20.0, 33.0)
    assert reached(run, 0.999) is None


@pytest.mark.parametrize(
    ("preset", "form"),
    [
        ("fast", "patches"),
        ("standard", "patches"),
        ("standard", "columns"),
        ("standard", "winograd"),
        ("standard", "rowwise"),
        ("fast", "blocks"),
        ("standard", "direct"),
    ],
)
def test_the_operations_of_a_step_by_its_sizes_are_those_of_its_program(preset, form):
    # Neither its augmentation nor its optimizer has products.
    config = resolve(preset, max_shift=0, max_scale=0, max_shear=0, optimizer="adamw")
    network = build(config.channels, config.hidden, 10, form=form, fixed_stem=config.stem == "whitened")
    optimizer = make_optimizer(config, 10)
    state = jax.eval_shape(lambda params: init_state(params, optimizer), network.shapes)
    images, labels = (
        jax.ShapeDtypeStruct((500, 28, 28, 1), jnp.uint8),
        jax.ShapeDtypeStruct((500,), jnp.int32),
    )
    order = jax.ShapeDtypeStruct((3, config.batch_size), jnp.int32)
    data = Data(images, labels, order, jax.eval_shape(lambda: jax.random.key(0)))  # pyright: ignore
    update = make_update(network, optimizer, config, 10, Portion(images=256, piece=64))
    executed = operations.executed(update, state, data)
    defined = operations.training_operations(config) * config.batch_size
    if form in ("winograd", "rowwise"):
        assert 0.4 * defined < executed < 0.7 * defined
    elif form == "blocks":  # with zeros, 16 for each 9 in the first two convolutions
        assert defined < executed < 16 / 9 * defined
    elif form == "direct":  # whose gradients towards an image have taps on padding
        assert defined < executed < 2 * defined
    else:
        assert executed == defined


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, int]]:
    """What `time_to_accuracy` runs, where runs are made up; its result files lie in `tmp_path`."""
    ran: list[tuple[str, int]] = []

    def run(name: str, seed: int, *_: object) -> dict[str, Any]:
        ran.append((name, seed))
        course = {"train_seconds": [1.0 + seed], "test_accuracy": [0.985], "seconds_before_end": [0.0]}
        return course | {"wall_seconds": 2.0 + seed, "peak_memory_mib": 100.0}

    monkeypatch.setattr(protocol, "RESULTS", tmp_path)
    monkeypatch.setattr(time_to_accuracy, "ours", run)
    monkeypatch.setattr(time_to_accuracy, "peer", run)
    return ran


def test_a_measurement_goes_on_behind_the_seeds_that_it_has(measured: list[tuple[str, int]]):
    arguments = time_to_accuracy.Arguments(seeds=2, ours=("sprint",), peers=("flax_example",), name="short")
    time_to_accuracy.main(arguments)
    del measured[:]
    time_to_accuracy.main(dataclasses.replace(arguments, seeds=4, add=True))
    assert measured == [("sprint", 0), ("sprint", 2), ("flax_example", 2), ("sprint", 3), ("flax_example", 3)]
    saved = protocol.load("time_to_accuracy-short")
    assert saved is not None
    assert [run["seed"] for run in saved["runs"]] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert saved["n"] == saved["summary"]["contestants"]["flax_example"]["wall_seconds"]["n"] == 4
    assert [place["seeds_below"] for place in saved["earlier_environments"]] == [2]


@pytest.mark.parametrize("other", [{"peers": ("pytorch_example",)}, {"until": 0.99}])
def test_a_measurement_of_something_else_is_not_gone_on_with(
    other: dict[str, Any], measured: list[tuple[str, int]]
):
    arguments = time_to_accuracy.Arguments(seeds=1, ours=("sprint",), peers=("flax_example",), name="short")
    time_to_accuracy.main(arguments)
    del measured[:]
    with pytest.raises(SystemExit, match="begin anew"):
        time_to_accuracy.main(dataclasses.replace(arguments, **other, seeds=2, add=True))
    assert measured == []


def test_of_peers_that_are_stopped_nothing_is_said_beyond(measured: list[tuple[str, int]]):
    assert measured == []
    arguments = time_to_accuracy.Arguments(seeds=1, ours=("sprint",), peers=("flax_example",), name="short")
    time_to_accuracy.main(dataclasses.replace(arguments, until=0.98))
    saved = protocol.load("time_to_accuracy-short")
    assert saved is not None
    assert saved["summary"]["until"] == 0.98
    assert saved["summary"]["accuracies"] == {}
    with pytest.raises(SystemExit, match="from 0 to 1"):
        time_to_accuracy.main(dataclasses.replace(arguments, until=99.0))


def test_a_peer_is_stopped_by_the_first_epoch_with_such_an_accuracy(
    mnist: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    course = [Epoch(float(number), accuracy) for number, accuracy in enumerate([0.9, 0.97, 0.96, 0.98])]
    made = SimpleNamespace(train=lambda *_, **__: iter(course), SETTINGS={})
    monkeypatch.setitem(sys.modules, "benchmarks.peers.flax_example", made)
    monkeypatch.setattr(contestant, "load", lambda _: mnist)
    contestant.main(["flax_example", "--until", "0.97"])
    assert json.loads(capsys.readouterr().out)["test_accuracy"] == [0.9, 0.97]


@pytest.mark.parametrize("short", [False, True])
def test_a_short_form_leaves_the_results_alone(short: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(protocol, "RESULTS", tmp_path)
    if short:
        monkeypatch.setenv(protocol.SHORT, "1")
    kept = protocol.save("speed", [1, 2], 2, {"mean": 1.5})
    assert (protocol.load("speed") is None) == kept.name.startswith("short-") == short
    assert protocol.save("speed", [1], 1, {"mean": 1}).name.startswith("short-")


def test_a_damaged_result_is_told_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(protocol, "RESULTS", tmp_path)
    path = protocol.save("speed", [1], 1, {"mean": 1})
    path.write_text("{")
    with pytest.raises(SystemExit, match="damaged"):
        protocol.save("speed", [1, 2], 2, {"mean": 1})
    assert path.read_text() == "{"


@pytest.mark.parametrize(
    ("processor", "words"),
    [
        ("AMD EPYC (avx2, avx512f)", "AMD EPYC"),
        ("Intel(R) Xeon(R) Processor (avx2, avx512f, amx_tile)", "Intel Xeon"),
        ("Intel(R) Xeon(R) Processor (avx2, avx512f, avx512_bf16)", "Intel Xeon AVX512"),
        ("AMD EPYC (avx2)", "AMD EPYC AVX2"),
        ("13th Gen Intel(R) Core(TM) i7-1360P (avx2)", "Intel Core AVX2"),
        ("aarch64 ()", "aarch64"),
    ],
)
def test_a_processor_in_words_may_name_a_file(processor: str, words: str):
    assert protocol.in_words(processor) == words


def minute(updates: int, accuracy: float, total: float) -> dict[str, Any]:
    """A result file of `one_minute`, of a training of 13 epochs with so many updates each."""
    seconds = {
        name: {"mean": value} for name, value in (("total", total), ("train", 30.0), ("evaluate", 1.0))
    }
    run = {"caches": "warm", "epochs": 13.0, "steps": 13 * updates, "peak_memory_mib": 500.0}
    return {
        "environment": {"processor": "A CPU", "versions": {"python": "3.13.0", "jax": "1"}, "date": "2099"},
        "summary": {"warm": {"test_accuracy": {"mean": accuracy}, "seconds": seconds}},
        "runs": [run, run | {"peak_memory_mib": 1100.0}],
    }


def told(benchmark: str, result: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the table of goals says of one result, from top to bottom."""
    monkeypatch.setattr(targets, "results", lambda name: [result] if name == benchmark else [])
    cells = [line.split(" | ")[-1].removesuffix(" |") for line in targets.targets().splitlines()[2:]]
    return [cell for cell in cells if cell]


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (minute(225, 0.9966, 32.5), ["99.66", "32.5", "1.5", "**1100, missed**"]),
        (
            minute(225, 0.9964, 60.0),
            ["**99.64, missed**", "**60.0, missed**", "**29.0, missed**", "**1100, missed**"],
        ),
        (minute(225, 0.9964999999999999, 32.5), ["99.65", "32.5", "1.5", "**1100, missed**"]),
        (minute(450, 0.9966, 32.5), ["99.66°", "32.5°", "1.5°", "**1100°, missed**"]),
    ],
)
def test_goals_are_met_or_missed_and_older_presets_marked(
    result: dict[str, Any], expected: list[str], monkeypatch: pytest.MonkeyPatch
):
    assert told(targets.MINUTE, result, monkeypatch) == expected


def test_a_gpu_has_goals_of_its_own(monkeypatch: pytest.MonkeyPatch):
    result = minute(225, 0.9964, 10.5)
    result["environment"]["accelerators"] = ["NVIDIA H200"]
    monkeypatch.setattr(targets, "results", lambda name: [result] if "one_minute" in name else [])
    assert "H200" not in targets.targets()
    lines = targets.gpu_targets().splitlines()
    assert "NVIDIA H200, Python 3.13.0" in lines[0]
    assert [line.split(" | ")[-1].removesuffix(" |") for line in lines[2:4]] == ["99.64", "**10.5, missed**"]


def test_on_the_oldest_python_less_is_asked(monkeypatch: pytest.MonkeyPatch):
    result = minute(225, 0.9962, 32.5)
    result["environment"]["versions"]["python"] = "3.11.7"
    assert told(targets.MINUTE, result, monkeypatch)[0] == "99.62"


def test_the_parts_of_a_step_add_up_to_it():
    parts = {"forward": 2.0, "forward and gradients": 5.0, "without augmentation": 4.5, "whole step": 6.0}
    taken = speed_tables.steps({"milliseconds": {name: {"mean": value} for name, value in parts.items()}})
    assert taken == [2.0, 3.0, -0.5, 1.5]


@pytest.mark.parametrize("batch_size", [128, 512])
def test_each_layer_of_a_step_can_be_run_alone(batch_size: int):
    alone = step_parts.layers(resolve("fast", channels=(2, 4, 4), hidden=4, batch_size=batch_size), turns=1)
    assert [*alone] == ["convolution 1", "convolution 2", "convolution 3", "hidden", "output"]
    for forward, with_gradients in alone.values():
        forward()
        with_gradients()


def test_a_run_is_recorded_with_its_time():
    output, measured = protocol.run(["-c", "print(1)"])
    assert output == "1\n"
    assert datetime.fromisoformat(measured["at"]).tzinfo is not None
    assert measured["wall_seconds"] > 0


def test_a_table_says_once_how_neighbouring_rows_begin():
    written = tables.table(["", "x"], [["a", "1"], ["a", "2"], ["b", "3"], ["a", "4"]])
    assert written.splitlines()[2:] == ["| a | 1 |", "|  | 2 |", "| b | 3 |", "| a | 4 |"]


def test_layers_have_a_column_for_each_machine_by_its_newest_python(monkeypatch: pytest.MonkeyPatch):
    def result(processor: str, milliseconds: float, *presets: str) -> dict[str, Any]:
        parts = ({"mean": milliseconds}, {"mean": 3 * milliseconds})
        layers = {"layers": {"hidden": 2e6}, "layer_milliseconds": {"hidden": parts}, "batch_size": 100}
        return {"environment": {"processor": processor}, "summary": dict.fromkeys(presets, layers)}

    found = [result("AMD EPYC", 9, "fast"), result("Arm", 2, "wide"), result("AMD EPYC", 1, "fast")]
    monkeypatch.setattr(speed_tables, "results", lambda _: found)
    head, _, *rows = speed_tables._layers().splitlines()
    assert head.endswith("| MFLOP an image | AMD EPYC, 100 images | Arm, 100 images |")
    assert rows == [
        "| `fast` | hidden | 2.000 | 1.00 / 3.00, 200 |  |",
        "| `wide` | hidden | 2.000 |  | 2.00 / 6.00, 100 |",
    ]
