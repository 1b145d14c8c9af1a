"""Pictures of every kind come out in MNIST's form, as the digits that they show."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxdigits import loader
from jaxdigits.errors import DataError, UsageError
from jaxdigits.image import is_mnist_like, prepare, stages
from jaxdigits.morphology import stroke_width
from tests.drawings import drawing, encoded, likeness


@pytest.fixture(scope="module")
def digits(mnist) -> np.ndarray:
    return mnist.test.images[:2000, :, :, 0]


def one(picture: Any, **options: Any) -> np.ndarray:
    (loaded,) = loader.load(picture, **options)
    assert loaded.error is None
    assert loaded.image.shape == (28, 28)
    assert loaded.image.dtype == np.uint8
    assert loaded.blank is not bool(loaded.image.any())
    return loaded.image


def alike(images: Sequence[np.ndarray], originals: Sequence[np.ndarray] | np.ndarray) -> float:
    """The mean correlation of images with their originals, wherever within a pixel they lie."""
    shifts = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return float(
        np.max([likeness(np.roll(images, shift, (1, 2)), originals) for shift in shifts], axis=0).mean()
    )


# MNIST itself.


def test_every_mnist_image_passes_bit_for_bit(mnist):
    images = np.concatenate([mnist.test.images, mnist.train.images[:20_000]])[..., 0]
    for image in images:
        prepared = prepare(image)
        assert prepared.image.tobytes() == image.tobytes()
        assert not prepared.blank
    prepared = prepare(images[0])
    prepared.image[0] = 1  # the caller's own copy
    assert not images[0][0].any()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF"])
def test_a_file_in_mnist_form_passes_bit_for_bit(digits, kind):
    assert np.array_equal(one(encoded(digits[7], kind)), digits[7])
    assert np.array_equal(one(encoded(Image.fromarray(digits[7]).convert("RGB"))), digits[7])
    assert np.array_equal(one(np.repeat(digits[7][..., None], 3, 2)), digits[7])


@pytest.mark.parametrize("shift", [(4, 0), (-3, -3), (0, 3)])
def test_what_is_only_like_mnist_is_centred(digits, shift):
    moved = [np.roll(digit, shift, (0, 1)) for digit in digits[:20]]
    assert not any(map(is_mnist_like, moved))
    assert alike([one(image) for image in moved], digits[:20]) > 0.85


def test_raw_takes_any_image_as_it_is(digits):
    for image in (255 - digits[0], np.roll(digits[0], 5), np.full((28, 28), 90, np.uint8)):
        assert np.array_equal(prepare(image, raw=True).image, image)
        assert np.array_equal(prepare(image, raw="if 28x28").image, image)
    with pytest.raises(DataError, match="30x20 pixels"):
        prepare(np.zeros((20, 30), np.uint8), raw=True)
    canvas = drawing(digits[0])
    assert np.array_equal(prepare(canvas, raw="if 28x28").image, prepare(canvas).image)


def test_polarity_can_be_said(digits):
    canvas = drawing(digits[0])
    assert np.array_equal(one(canvas, invert=True), one(canvas))
    assert alike([one(255 - canvas, invert=False)], [one(canvas)]) > 0.95
    assert np.array_equal(one(digits[0], invert=False), digits[0])
    wrong = one(digits[0], invert=True)
    assert not np.array_equal(wrong, digits[0])


@pytest.mark.parametrize("options", [{"invert": "yes"}, {"invert": None}, {"raw": "no"}])
def test_other_options_are_refused(options):
    with pytest.raises(UsageError):
        prepare(np.zeros((28, 28), np.uint8), **options)


# Pictures come back as the digits that they show.


def noisy(canvas: np.ndarray, deviation: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(canvas, deviation)
    return noise.clip(0, 255).astype(np.uint8)


def shaded(canvas: np.ndarray) -> np.ndarray:
    """In light that falls off to a third across the picture, with a soft shadow over a part of it."""
    height, width = canvas.shape
    y, x = np.mgrid[:height, :width]
    light = 1 - 0.5 * x / width - 0.3 / (1 + np.exp((y - 0.6 * height) / 8))
    return noisy((0.2 + 0.8 * canvas / 255) * 240 * light, 2)


def ruled(canvas: np.ndarray) -> np.ndarray:
    paper = np.full(canvas.shape, 240.0)
    paper[7::29] = paper[:, 11::29] = 160
    return np.minimum(paper, 40 + canvas.astype(float)).astype(np.uint8)


def on_table(canvas: np.ndarray) -> np.ndarray:
    table = noisy(np.full((600, 800), 70.0), 15)
    sheet = Image.fromarray(np.maximum(canvas, 40)).rotate(4, Image.Resampling.BICUBIC, expand=True)
    mask = Image.new("L", canvas.shape[::-1], 255).rotate(4, expand=True)
    photograph = Image.fromarray(table)
    photograph.paste(sheet, (60, 50), mask)
    return np.asarray(photograph)


def pixelated(digit: np.ndarray) -> np.ndarray:
    return drawing(digit, 4, kernel=Image.Resampling.NEAREST)


WAYS: dict[str, Callable[[np.ndarray], Any]] = {
    "inverted": lambda d: 255 - d,
    "beside the middle": lambda d: drawing(d, 1, (60, 50), (20, 11)),
    "pixelated": pixelated,
    "white on black": lambda d: 255 - pixelated(d),
    "smooth": drawing,
    "JPEG": lambda d: encoded(drawing(d), "JPEG", quality=60),
    "large": lambda d: encoded(drawing(d, 30, (4000, 3000), (1500, 700)), "JPEG"),
    "small in a large picture": lambda d: drawing(d, 4, (1600, 1200), (1400, 1000)),
    "faint": lambda d: 120 + drawing(d) // 8,
    "noisy": lambda d: noisy(drawing(d) * 0.8 + 20, 15),
    "shaded": lambda d: shaded(drawing(d)),
    "squared paper": lambda d: ruled(drawing(d)),
    "on a table": lambda d: on_table(drawing(d)),
    "coarse": lambda d: np.asarray(Image.fromarray(d).resize((14, 14), Image.Resampling.BOX)),
}


@pytest.mark.parametrize("way", WAYS)
def test_drawings_come_back(digits, way: str):
    images = [one(WAYS[way](digit)) for digit in digits[:12]]
    assert alike(images, digits[:12]) > (0.75 if way == "coarse" else 0.85)


@pytest.mark.parametrize("ink", [(0, 0, 200), (200, 0, 0), (255, 255, 0), (0, 255, 255), (90, 60, 40)])
@pytest.mark.parametrize("paper", [(255, 255, 255), (250, 230, 120)])
def test_coloured_ink_comes_back(digits, ink, paper):
    weight = (255 - drawing(digits[4]))[..., None] / 255
    colour = np.array(paper) * (1 - weight) + np.array(ink) * weight
    assert alike([one(colour.astype(np.uint8))], digits[4:5]) > 0.8


def test_ink_that_differs_in_colour_alone_comes_back(digits):
    weight = (255 - drawing(digits[4]))[..., None] / 255
    colour = np.array((150, 200, 120)) * (1 - weight) + np.array((250, 149, 140)) * weight
    luma = colour @ [0.299, 0.587, 0.114]
    assert np.ptp(luma) < 4
    assert alike([one(colour.astype(np.uint8))], digits[4:5]) > 0.8


@pytest.mark.parametrize("ink", [0, 255, 128])
def test_transparent_paper(digits, ink):
    alpha = 255 - drawing(digits[4])
    picture = Image.fromarray(np.dstack([np.full_like(alpha, ink)] * 3 + [alpha]))
    for mode in ("RGBA", "LA"):
        assert alike([one(picture.convert(mode))], digits[4:5]) > 0.8
    assert alike([one(encoded(picture))], digits[4:5]) > 0.8


def test_place_and_polarity_do_not_matter(digits):
    for digit in digits[:10]:
        here, there = drawing(digit, at=(5, 7)), drawing(digit, at=(333, 160))
        assert alike([one(here)], [one(there)]) > 0.9
        assert alike([one(here)], [one(255 - here)]) > 0.9


def seven(width: float, side: int = 400) -> np.ndarray:
    """A 7 drawn with a pen of so many pixels on a picture of so many."""
    y, x = np.mgrid[:side, :side] / side
    bar = np.hypot(np.clip(abs(x - 0.5) - 0.2, 0, None), y - 0.2)
    leg = np.hypot(x - np.clip(0.7 - (y - 0.2) * 0.5, 0.4, 0.7), np.clip(abs(y - 0.5) - 0.3, 0, None))
    distance = np.minimum(bar, leg) * side
    return np.rint(255 * np.clip(distance - width / 2 + 0.5, 0, 1)).astype(np.uint8)


def test_every_pen_gives_strokes_like_those_of_mnist(mnist):
    usual = [stroke_width(image[..., 0]) for image in mnist.train.images[:500]]
    low, high = np.percentile(usual, (5, 95))
    for width in (1.5, 3, 6, 12, 24, 48):
        image = one(seven(width))
        assert low < stroke_width(image) < high, width
        assert likeness([image], [one(seven(20))])[0] > 0.8, width


def test_specks_do_not_matter():
    canvas = seven(6)
    clean = one(canvas)
    canvas[20, 30] = canvas[390, 380] = canvas[385, 20:22] = 0
    assert likeness([one(canvas)], [clean])[0] > 0.999


def test_a_frame_does_not_matter():
    canvas = seven(6)
    clean = one(canvas)
    canvas[:3] = canvas[-3:] = canvas[:, :3] = canvas[:, -3:] = 0
    assert likeness([one(canvas)], [clean])[0] > 0.95


def test_a_digit_of_several_strokes_stays_whole():
    canvas = seven(12)
    canvas[105:125] = 255  # bar and leg apart
    assert likeness([one(canvas)], [one(seven(12))])[0] > 0.85


@given(st.integers(8, 90), st.integers(8, 90), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_every_result_has_mnist_form(height, width, seed):
    random = np.random.default_rng(seed)
    canvas = np.full((height, width), 255, np.uint8)
    top, left = random.integers(1, height - 5), random.integers(1, width - 5)
    canvas[top : top + random.integers(3, height), left : left + random.integers(3, 5)][:-1] = 0
    canvas[-1] = 255
    result = one(canvas).astype(float)
    rows, columns = np.flatnonzero((result > 40).any(1)), np.flatnonzero((result > 40).any(0))
    assert 19 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 20
    centre = [np.average(np.arange(28), weights=result.sum(1 - axis)) for axis in (0, 1)]
    assert np.abs(np.subtract(centre, 14)).max() <= 0.6


@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**32 - 1), st.sampled_from([(), (3,), (4,)]))
@settings(max_examples=60, deadline=None)
def test_anything_gives_an_image(height, width, seed, channels):
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (height, width, *channels), np.uint8)
    for picture in (pixels, np.sort(pixels, 0), (pixels > 250) * np.uint8(255)):
        one(picture)


# Blank pictures.


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (28, 28), (3, 700), (300, 200)])
@pytest.mark.parametrize("level", [0, 90, 255])
def test_a_blank_picture_is_black_and_said_to_be_blank(size, level):
    assert not one(np.full(size, level, np.uint8)).any()
    assert not one(encoded(np.full(size, level, np.uint8))).any()


def test_nothing_but_noise_or_shade_is_blank():
    noise = noisy(np.full((400, 400), 180.0), 8)
    assert not one(noise).any()
    slope = np.broadcast_to(np.linspace(80, 240, 400), (300, 400)).astype(np.uint8)
    assert not one(slope).any()


# Stages.


def test_the_stages_lead_from_the_picture_to_the_image(digits):
    canvas = shaded(drawing(digits[0]))
    steps = stages(canvas)
    assert next(iter(steps)) == "picture"
    assert list(steps)[-1] == "image"
    assert {"grey", "ink", "digit", "even"} <= steps.keys()
    assert np.array_equal(steps["image"], prepare(canvas).image)
    assert all(step.dtype == np.uint8 for step in steps.values())
    assert list(stages(digits[0])) == ["image"]
