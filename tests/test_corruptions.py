"""The fifteen corruptions: what each does to images, and to none that it should leave alone."""

import json

import numpy as np
import pytest

from benchmarks import corruptions, filters
from benchmarks.corruptions import CORRUPTIONS, corrupt
from jaxdigits.dataset import Dataset
from jaxdigits.errors import DataError, UsageError
from jaxdigits.training import TrainResult

EACH = pytest.mark.parametrize("name", CORRUPTIONS)
SIDE = 28


@pytest.fixture(scope="module")
def images(mnist: Dataset) -> np.ndarray:
    return mnist.test.images[:60, :, :, 0]


def square(low: int = 8, high: int = 20) -> np.ndarray:
    """One image of a white square."""
    image = np.zeros((1, SIDE, SIDE), np.uint8)
    image[:, low:high, low:high] = 255
    return image


def centre(image: np.ndarray) -> np.ndarray:
    """The centre of mass, (row, column)."""
    return np.array([np.average(np.arange(SIDE), weights=image.sum(axis, dtype=float)) for axis in (1, 0)])


def test_there_are_the_fifteen():
    assert len(CORRUPTIONS) == 15


@EACH
def test_every_image_changes_and_keeps_its_form(name: str, images: np.ndarray):
    before = images.copy()
    after = corrupt(name, images, 0)
    assert after.shape == images.shape
    assert after.dtype == np.uint8
    assert not np.shares_memory(after, images)
    assert (images == before).all()
    changed = (after != images).any(axis=(1, 2))
    assert changed.all()


@EACH
def test_the_seed_decides(name: str, images: np.ndarray):
    one, again, other = (corrupt(name, images, seed) for seed in (3, 3, 4))
    assert (one == again).all()
    random = name not in ("scale", "brightness", "stripe", "canny_edges")
    assert (one != other).any() == random


@EACH
def test_images_differ_in_what_happens_to_them(name: str, images: np.ndarray):
    after = corrupt(name, np.repeat(images[:1], 40, axis=0), 0)
    random = name not in ("scale", "brightness", "stripe", "canny_edges")
    assert (after != after[0]).any() == random


@EACH
def test_no_images_are_no_images(name: str, images: np.ndarray):
    assert corrupt(name, images[:0], 0).shape == (0, SIDE, SIDE)


@EACH
def test_a_blank_image_gets_only_what_is_added(name: str):
    after = corrupt(name, np.zeros((40, SIDE, SIDE), np.uint8), 0)
    added = {"impulse_noise": 255, "brightness": 128, "stripe": 255, "spatter": 63, "dotted_line": 255}
    assert after.max() == (added | {"zigzag": 255}).get(name, 0)


@pytest.mark.parametrize("name", ["glass_blur", "motion_blur", "shear", "rotate", "translate"])
def test_what_only_moves_ink_keeps_the_amount(name: str):
    before = np.repeat(square(), 50, axis=0)
    after = corrupt(name, before, 0)
    amount = after.sum(dtype=float) / before.sum(dtype=float)
    assert amount == pytest.approx(1 / np.cos(0.4) if name == "shear" else 1, rel=0.02)


def test_noise_is_of_its_strength():
    white = np.full((50, SIDE, SIDE), 255, np.uint8)
    assert np.mean(corrupt("impulse_noise", white, 0) == 0) == pytest.approx(0.085, abs=0.01)
    counts = corrupt("shot_noise", white, 0)
    assert {*np.unique(counts)} == {0, 85, 170, 255}
    assert np.mean(counts == 0) == pytest.approx(np.exp(-3), abs=0.01)


def test_a_translation_is_by_three_pixels_along_both_axes():
    before = square()
    seen = set()
    for seed in range(40):
        after = corrupt("translate", before, seed)[0]
        moved = np.rint(centre(after) - centre(before[0])).astype(int)
        assert (np.roll(before[0], moved, axis=(0, 1)) == after).all()
        seen.add(tuple(moved.tolist()))
    assert seen == {(-3, -3), (-3, 3), (3, -3), (3, 3)}


def test_a_shrunk_image_has_half_the_area_and_the_same_middle():
    before = square()
    after = corrupt("scale", before, 0)
    assert after.sum(dtype=float) / before.sum(dtype=float) == pytest.approx(0.49, abs=0.04)
    assert centre(after[0]) == pytest.approx([13.5, 13.5])


@pytest.mark.parametrize(("name", "slant"), [("rotate", np.tan(0.4)), ("shear", np.sin(0.4))])
def test_an_upright_bar_leans_to_either_side(name: str, slant: float):
    bar = np.zeros((40, SIDE, SIDE), np.uint8)
    bar[:, 6:22, 13:15] = 255
    rows = np.arange(10, 18)
    places = (corrupt(name, bar, 0)[:, rows] * np.arange(SIDE)).sum(2) / corrupt(name, bar, 0)[:, rows].sum(2)
    slopes = np.array([np.polyfit(rows, place, 1)[0] for place in places])
    assert np.abs(slopes) == pytest.approx(slant, abs=0.03)
    assert (slopes > 0).any()
    assert (slopes < 0).any()


def test_brightness_and_stripes_are_exact(images: np.ndarray):
    bright = corrupt("brightness", images, 0)
    assert np.abs(bright - np.minimum(images + 127.5, 255)).max() <= 0.5
    striped = corrupt("stripe", images, 0)
    assert (striped[:, :, 7:21] == images[:, :, 7:21]).all()
    assert (
        striped[:, :, [*range(7), *range(21, 28)]] == 255 - images[:, :, [*range(7), *range(21, 28)]]
    ).all()


def test_fog_takes_contrast_and_adds_light(images: np.ndarray):
    after = corrupt("fog", images, 0)
    assert after.std(axis=(1, 2)).mean() < images.std(axis=(1, 2)).mean()
    assert after.mean() > 2 * images.mean()
    ink = images > 200
    assert after[ink].mean() > after[images == 0].mean() + 30


def test_lines_only_add_light(images: np.ndarray):
    for name in ("dotted_line", "zigzag"):
        assert (corrupt(name, images, 0) >= images).all()
    columns = corrupt("dotted_line", np.zeros((9, SIDE, SIDE), np.uint8), 0).any(axis=1)
    assert (columns == (np.arange(SIDE) // 2 % 2 == 1) * (np.arange(SIDE) < 27)).all()


def test_spatter_hides_and_never_shines(images: np.ndarray):
    after = corrupt("spatter", images, 0)
    assert (after <= np.maximum(images, 63)).all()
    assert (after[images > 200] < 100).any()


def test_edges_are_the_thin_outline_of_a_square():
    edges = corrupt("canny_edges", square(), 0)[0]
    assert {*np.unique(edges)} == {0, 255}
    assert not edges[11:17, 11:17].any()
    for middle in (edges[14], edges[:, 14]):  # an edge lies between two pixels: either may be it, or both
        places = np.flatnonzero(middle)
        assert {*places.tolist()} <= {7, 8, 19, 20}
        assert (places < 14).any()
        assert (places > 14).any()


def test_a_weak_edge_needs_a_strong_one():
    step = np.zeros((2, SIDE, SIDE))
    step[0, :, 14:] = 0.06  # its gradient, 0.15, lies between the thresholds
    step[1, :, 14:] = np.linspace(0.06, 0.12, SIDE)[:, None]  # up to 0.3
    edges = filters.canny(step)
    assert not edges[0].any()
    assert edges[1, 1:-1].any(axis=1).all()


def test_a_blur_is_a_mean_with_gaussian_weights():
    point = np.zeros((1, SIDE, SIDE))
    point[0, 14, 14] = 1
    blurred = filters.gaussian_blur(point, (2.0, 0.0))[0]
    assert blurred.sum() == pytest.approx(1)
    assert not blurred[:, np.arange(SIDE) != 14].any()
    assert blurred[16, 14] / blurred[14, 14] == pytest.approx(np.exp(-0.5))
    flat = np.full((1, SIDE, SIDE), 0.3)
    for edge in ("nearest", "inside"):
        assert filters.gaussian_blur(flat, (1.5, 3.0), edge) == pytest.approx(flat)


def test_a_warp_by_the_identity_is_exact_and_reads_black_outside(images: np.ndarray):
    identity = np.repeat(np.eye(2)[None], len(images), axis=0)
    assert (filters.affine(images, filters.centred_matrix(identity, SIDE)) == images).all()
    far = filters.affine(images, filters.centred_matrix(identity, SIDE, 40.0))
    assert not far.any()


def test_a_plasma_spans_its_range_and_wants_a_power_of_two():
    fields = filters.plasma(3, 64, 1.4, np.random.default_rng(0))
    assert fields.shape == (3, 64, 64)
    assert fields.min(axis=(1, 2)) == pytest.approx(0)
    assert fields.max(axis=(1, 2)) == pytest.approx(1)
    smooth, rough = (filters.plasma(3, 64, decay, np.random.default_rng(0)) for decay in (2.0, 1.1))
    assert np.abs(np.diff(smooth)).mean() < np.abs(np.diff(rough)).mean() / 2
    with pytest.raises(ValueError, match="power of two"):
        filters.plasma(1, 48, 1.4, np.random.default_rng(0))


def test_bad_calls_say_what_was_expected(images: np.ndarray):
    with pytest.raises(UsageError, match="did you mean zigzag"):
        corrupt("zigzak", images, 0)
    with pytest.raises(UsageError, match="seed is -1"):
        corrupt("fog", images, -1)
    for wrong in (images / 255.0, images[:, :27], images[0]):
        with pytest.raises(DataError, match="expected images uint8"):
            corrupt("fog", wrong, 0)


def test_the_benchmark_writes_what_it_measured(
    tiny_run: TrainResult, tmp_path, mnist: Dataset, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("jaxdigits.dataset.load", lambda _: mnist)
    out = tmp_path / "errors.json"
    corruptions.main(corruptions.Arguments((tiny_run.run_dir,), 50, 0, out))
    result = json.loads(out.read_text())
    (run,) = result["runs"]
    assert run["errors"].keys() == CORRUPTIONS.keys()
    assert run["mean_error"] == pytest.approx(np.mean([*run["errors"].values()]))
    assert run["clean_error"] < run["mean_error"] <= 1
    assert result["environment"]["versions"]["numpy"] == np.__version__


def test_more_images_than_there_are_is_said(
    tiny_run: TrainResult, mnist: Dataset, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("jaxdigits.dataset.load", lambda _: mnist)
    with pytest.raises(UsageError, match="1 to 10000"):
        corruptions.measure([tiny_run.run_dir], 10_001, 0, print)
