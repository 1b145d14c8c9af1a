"""What is no digit, and the figures that tell how well it is told from digits."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import nondigits, outliers
from benchmarks.nondigits import KINDS, LETTERS
from benchmarks.outliers import auroc, refused_at
from jaxdigits.checkpoint import MODEL_FILE, save_model
from jaxdigits.dataset import Dataset
from jaxdigits.errors import DataError, UsageError
from jaxdigits.training import TrainResult

MADE = [kind for kind in KINDS if kind != "fashion"]
EACH = pytest.mark.parametrize("kind", MADE)
DRAWN = ["letters", "scribbles", "doodles"]


@EACH
def test_images_have_the_form_of_mnist_and_are_all_different(kind: str):
    images = KINDS[kind](60, 0)
    assert images.shape == (60, 28, 28, 1)
    assert images.dtype == np.uint8
    assert len({image.tobytes() for image in images}) > (50 if kind == "specks" else 58)
    assert KINDS[kind](0, 0).shape == (0, 28, 28, 1)


@EACH
def test_the_seed_decides_and_fewer_are_the_first_ones(kind: str):
    images = KINDS[kind](12, 5)
    assert (images == KINDS[kind](12, 5)).all()
    assert (images[:4] == KINDS[kind](4, 5)).all()
    assert (images != KINDS[kind](12, 6)).any()


@pytest.mark.parametrize("kind", DRAWN)
def test_what_is_drawn_fills_the_box_and_is_centred_by_mass(kind: str):
    for image in KINDS[kind](40, 1)[:, :, :, 0]:
        rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
        assert 19 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 20
        assert image.max() > 100
        for axis in (0, 1):
            middle = np.average(np.arange(28), weights=image.sum(1 - axis, dtype=float))
            assert abs(middle - 14) <= 0.51


def test_no_letter_is_a_digit_to_the_eye():
    assert len(set(LETTERS)) == len(LETTERS)
    assert LETTERS.isalpha()
    assert not set(LETTERS) & set("OoDQIilSsZzBGbgq")


def test_every_letter_can_be_told_from_the_others_in_every_font():
    fonts = nondigits.fonts()
    assert fonts
    assert any("DejaVu" in str(font.getname()[0]) for font in fonts)  # Matplotlib brings it everywhere


def test_blank_paper_is_nearly_black():
    images = KINDS["specks"](100, 0)
    assert (images < 64).mean(axis=(1, 2, 3)).min() > 0.95


def test_clothes_are_left_out_aloud_where_they_are_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(nondigits, "FASHION", tmp_path / "none")
    with pytest.raises(DataError, match="dataset-fashion-mnist"):
        KINDS["fashion"](3, 0)


@pytest.mark.skipif(not nondigits.FASHION.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_clothes_are_not_repeated():
    images = KINDS["fashion"](200, 0)
    assert images.shape == (200, 28, 28, 1)
    assert len({image.tobytes() for image in images}) > 195


def test_the_area_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(0)
    inside, outside = rng.integers(0, 9, 40) / 8, rng.integers(0, 7, 30) / 8
    pairs = np.sign(inside[:, None] - outside)
    assert auroc(inside, outside) == pytest.approx((pairs.mean() + 1) / 2)
    assert auroc(inside, inside) == pytest.approx(0.5)
    assert auroc(inside + 9, outside) == 1
    assert auroc(inside - 9, outside) == 0


def test_the_threshold_refuses_no_more_digits_than_allowed():
    inside = np.arange(1000) / 1000
    assert refused_at(inside, inside) == pytest.approx(0.01)
    assert refused_at(inside, np.array([0.0, 0.0099, 0.01, 0.5])) == 0.5
    assert refused_at(inside, inside - 1) == 1
    assert refused_at(np.ones(50), np.ones(9), 0.5) == 0  # ties with digits are not refused
    assert refused_at(inside, inside, share=0) == 0


def test_figures_need_scores():
    some, none = np.ones(3), np.ones(0)
    for wrong in ((some, none), (none, some)):
        with pytest.raises(UsageError, match="no scores"):
            auroc(*wrong)
        with pytest.raises(UsageError, match="no scores"):
            refused_at(*wrong)
    with pytest.raises(UsageError, match="share to refuse is 1"):
        refused_at(some, some, 1)


def test_the_benchmark_writes_what_it_measured(
    tiny_run: TrainResult, tmp_path: Path, mnist: Dataset, monkeypatch: pytest.MonkeyPatch, capsys
):
    strict = dataclasses.replace(tiny_run.model, threshold=1e9)
    save_model(tmp_path / MODEL_FILE, strict)
    monkeypatch.setattr("jaxdigits.dataset.load", lambda *_, **__: mnist)
    monkeypatch.setattr(nondigits, "FASHION", tmp_path / "none")
    out = tmp_path / "outliers.json"
    outliers.main(outliers.Arguments(tmp_path, 8, 0, out))
    result = json.loads(out.read_text())
    assert [run["kind"] for run in result["runs"]] == MADE
    assert all(0 <= run["auroc"] <= 1 and run["n"] == 8 for run in result["runs"])
    assert all(run["refused"] <= run["refused_by_model"] == 1 for run in result["runs"])
    assert result["summary"]["threshold"] == 1e9
    assert result["summary"]["digits_refused_by_model"] == 1
    assert "fashion left out" in capsys.readouterr().out
