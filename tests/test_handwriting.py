"""Digits drawn again as pictures, and the figures, tables and plot of the handwriting benchmark."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import ablation, handwriting, nondigits, quality_tables
from benchmarks.contestants import Answers, Contestant, figures, squashed
from benchmarks.corruptions import CORRUPTIONS
from benchmarks.handwriting import Counts
from benchmarks.handwriting_report import plot, tables
from benchmarks.pens import drawn, enlarged, strokes_of, thinned
from benchmarks.redrawn import KINDS, redraw
from jaxdigits import loader
from jaxdigits.dataset import Dataset, Split
from jaxdigits.errors import UsageError
from jaxdigits.flags import TrainArguments, defaults, parse
from jaxdigits.presets import resolve
from jaxdigits.recognizer import load
from jaxdigits.training import TrainResult
from tests.drawings import likeness

EACH = pytest.mark.parametrize("kind", KINDS)
FEW = Counts(clean=60, corrupted=8, pages=2, pictures=2, non_digits=4)


@pytest.fixture(scope="module")
def digits(mnist: Dataset) -> np.ndarray:
    return mnist.test.images[:12, :, :, 0]


# Pens.


def test_thinned_shapes_lie_within_and_are_lines():
    masks = np.zeros((2, 40, 40), bool)
    masks[0, 10:17, 5:35] = True  # a bar
    y, x = np.mgrid[:40, :40]
    masks[1] = np.abs(np.hypot(y - 20, x - 20) - 12) < 3  # a ring
    lines = thinned(masks)
    assert not (lines & ~masks).any()
    assert (lines[0].sum(axis=0) <= 1).all()
    assert 20 <= lines[0].sum() <= 30
    assert np.allclose(np.hypot(*(np.argwhere(lines[1]) - 20).T), 12, atol=1.6)
    assert np.array_equal(thinned(lines), lines)
    assert not thinned(np.zeros((1, 5, 5), bool)).any()


def alike(ink: np.ndarray, digit: np.ndarray) -> float:
    """The correlation of a digit with what its picture becomes, wherever within a pixel that lies."""
    (read,) = loader.load(255 - np.rint(255 * np.pad(ink, 20)).astype(np.uint8))
    near = [np.roll(read.image, (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return float(likeness(near, [digit] * len(near)).max())


def test_a_digit_drawn_again_is_that_digit(digits: np.ndarray):
    for strokes, digit, other in zip(strokes_of(digits), digits, np.roll(digits, 1, axis=0), strict=True):
        again = drawn(strokes, 100, 13)
        assert alike(again, digit) > max(0.7, alike(again, other))
        assert alike(enlarged(digit, 100), digit) > 0.8


def test_ink_grows_with_the_width_of_the_pen(digits: np.ndarray):
    for strokes in strokes_of(digits[:3]):
        thin, broad = (drawn(strokes, 200, width) for width in (4, 8))
        assert 0 <= thin.min() <= broad.max() <= 1
        assert 1.6 < broad.sum() / thin.sum() < 2.4
        assert broad.shape[0] - thin.shape[0] in range(2, 7)


# Pictures.


@EACH
def test_pictures_follow_from_the_seed_and_fewer_are_the_first_ones(kind: str, digits: np.ndarray):
    pictures = [*redraw(kind, digits[:3], 5)]
    assert all(one.dtype == np.uint8 and one.ndim in (2, 3) and np.ptp(one) > 15 for one in pictures)
    for one, again in zip(pictures[:2], redraw(kind, digits[:2], 5), strict=True):
        assert np.array_equal(one, again)
    (other,) = redraw(kind, digits[:1], 6)
    assert other.shape != pictures[0].shape or (other != pictures[0]).any()


def test_colours_differ_and_brightness_does_not(digits: np.ndarray):
    for picture in redraw("coloured_ink", digits[:5], 0):
        grey = np.asarray(Image.fromarray(picture).convert("L"), float)
        assert grey.std() < 6
        assert picture.reshape(-1, 3).std(axis=0).max() > 6


def test_what_cannot_be_drawn_is_said(digits: np.ndarray):
    with pytest.raises(UsageError, match="thin_pen"):
        next(redraw("quill", digits, 0))
    with pytest.raises(UsageError, match="seed"):
        next(redraw("chalk", digits, -1))
    assert [*redraw("chalk", digits[:0], 0)] == []


# The contestants.


def test_naive_resizing_inverts_bright_borders_and_squashes(digits: np.ndarray):
    assert np.array_equal(squashed(digits[0]), digits[0])
    assert np.array_equal(squashed(255 - digits[0]), digits[0])
    assert np.array_equal(squashed(np.repeat(digits[0][..., None], 3, 2)), digits[0])
    bar = np.full((100, 40), 255, np.uint8)
    bar[10:90, 15:25] = 0
    found = squashed(bar) > 127
    assert found.any(axis=1).sum() in (22, 23)
    assert found.any(axis=0).sum() in (6, 7, 8)  # 3 if the shape were kept


def test_figures_of_answers():
    probabilities = np.full((4, 10), 0.2 / 9, np.float32)
    probabilities[:, 3] = 0.8
    answers = Answers(probabilities, np.arange(4.0), np.array([True, False, False, False]))
    told = figures(answers, np.array([5, 3, 3, 3]))
    assert told["n"] == 4
    assert told["error"] == told["refused"] == 0.25
    assert told["error_of_rest"] == 0
    assert told["probability"] == pytest.approx(0.8)
    assert told["calibration_error"] == pytest.approx(0.05)
    none = Answers(probabilities, np.arange(4.0), np.ones(4, bool))
    assert figures(none, np.full(4, 5))["error_of_rest"] == 0


@pytest.fixture(scope="module")
def result(tiny_run: TrainResult, mnist: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict:
    out = tmp_path_factory.mktemp("handwriting") / "result.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxdigits.dataset.load", lambda *_, **__: mnist)
        patch.setattr(nondigits, "FASHION", out.parent / "none")
        run = tiny_run.run_dir
        handwriting.main(handwriting.Arguments(run, run, counts=FEW, out=out))
    return json.loads(out.read_text())


def test_everything_is_measured_of_every_contestant(result: dict):
    found = {(run["topic"], run["condition"], run["contestant"]): run for run in result["runs"]}
    assert len(found) == len(result["runs"]) == 3 * (1 + 16 + (1 + len(KINDS)) + 2 + 7)
    for condition, n in (("all", 8 * 15), *dict.fromkeys(CORRUPTIONS, 8).items()):
        assert found["corruption", condition, "default"]["n"] == n
    for condition, n in (("all", 2 * len(KINDS)), *dict.fromkeys(KINDS, 2).items()):
        assert found["picture", condition, "naive"]["n"] == n
    for (topic, condition, name), run in found.items():
        shares = [value for figure, value in run.items() if isinstance(value, float) and figure != "n"]
        assert shares
        assert all(0 <= share <= 1 for share in shares)
        if name == "standard":  # here the same model as the default one
            ours = found[topic, condition, "default"]
            assert run | {"contestant": "default"} == ours
        if topic == "clean":  # which have dark borders
            assert run["error"] == found[topic, condition, "naive"]["error"]
    parts = [found["corruption", name, "naive"]["error"] for name in CORRUPTIONS]
    assert found["corruption", "all", "naive"]["error"] == pytest.approx(np.mean(parts))
    assert result["summary"]["models"]["default"]["preset"] == "fast"
    assert result["summary"]["counts"] == dataclasses.asdict(FEW)


def test_the_report_has_all_of_it(result: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for table in tables(result["runs"]):
        assert {len(row) for row in table.rows} == {len(table.head)}
    (tmp_path / "handwriting-python3.11.json").write_text(json.dumps(result))
    monkeypatch.setattr("benchmarks.tables.RESULTS", tmp_path)
    text = quality_tables.handwriting()
    assert "canny edges" in text
    assert "ruled paper" in text
    assert text.count("| mean |") == 5
    plot(result["runs"], tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        assert min(image.size) > 500


def test_nothing_to_measure_is_said(tiny_run: TrainResult, mnist: Dataset):
    contestants = [Contestant("default", load(tiny_run.run_dir))]
    for wrong in ({"pages": 0}, {"seed": -1}, {"clean": 10_001}):
        with pytest.raises(UsageError, match="expected"):
            handwriting.measure(contestants, mnist.test, dataclasses.replace(FEW, **wrong), print)


# The ladder of the preset that all this is for.


def test_rungs_of_robust_stand_alone_and_others_add_up():
    assert ablation.flags("robust", 0) == []
    assert ablation.flags("robust", 2) == ["--damage", "0"]
    assert ablation.flags("fast", 5)[:3] == ["--channels", "24", "32"]
    assert "whitened" in ablation.flags("fast", 5)


@pytest.mark.parametrize("preset", ["fast", "standard"])
def test_a_ladder_ends_at_its_preset(preset: str):
    reached = []
    for rung in range(len(ablation.LADDERS[preset])):
        arguments = ["--preset", preset, *ablation.flags(preset, rung)]
        run = parse(TrainArguments, arguments, "train", defaults(arguments)).run
        reached.append(dataclasses.replace(run, dtype="auto") == resolve(preset))
    assert reached == [False] * (len(reached) - 2) + [True, True]  # in float32, and in bfloat16


@pytest.mark.parametrize("wrong", [{"last": 0}, {"last": 99}, {"seeds": 0}])
def test_a_ladder_of_no_rungs_or_runs_is_refused(wrong: dict[str, int]):
    with pytest.raises(SystemExit, match=f"--{next(iter(wrong))} is a number of"):
        ablation.main(dataclasses.replace(ablation.Arguments(), **wrong))


def test_robustness_is_measured_on_the_images_held_out(
    tiny_run: TrainResult, mnist: Dataset, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ablation, "CORRUPTED", 10)
    monkeypatch.setattr(ablation, "NON_DIGITS", 3)
    held_out = Split(mnist.train.images[:50], mnist.train.labels[:50])
    found = ablation.robustness(tiny_run.run_dir, held_out)
    assert set(found) == {"corruption_error", "refused"}
    assert all(0 <= share <= 1 for share in found.values())
    shuffled = Split(held_out.images, (held_out.labels + 1) % 10)
    assert ablation.robustness(tiny_run.run_dir, shuffled)["corruption_error"] > found["corruption_error"]
