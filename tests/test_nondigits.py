import numpy as np
import pytest

from jaxdigits.nondigits import make_non_digits

UNDONE = ("turned", "quarters", "overlaid")
DRAWN = ("strokes", "arcs", "more arcs", "outlines", "letters", "more letters")
KINDS = (*UNDONE, *DRAWN, "clouds", "empty")


@pytest.fixture(scope="module")
def digits(mnist) -> tuple[np.ndarray, np.ndarray]:
    return mnist.train.images[:3000], mnist.train.labels[:3000]


def test_the_seed_decides(digits: tuple[np.ndarray, np.ndarray]):
    first, again, other = (make_non_digits(*digits, 90, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.dtype == np.uint8


@pytest.mark.parametrize("count", [1, 10, 100, 901])
def test_any_number_can_be_made(digits: tuple[np.ndarray, np.ndarray], count):
    assert make_non_digits(*digits, count, 0).shape == (count, 28, 28, 1)


def test_none_is_an_image_that_was_given_and_few_are_alike(digits: tuple[np.ndarray, np.ndarray]):
    images = digits[0].copy()
    made = make_non_digits(images, digits[1], 100 * len(KINDS), 0)
    np.testing.assert_array_equal(images, digits[0])
    given = {image.tobytes() for image in images}
    assert not any(image.tobytes() in given for image in made)
    kinds = dict(zip(KINDS, np.split(made, len(KINDS)), strict=True))
    for kind in set(KINDS) - {"empty"}:
        assert len({image.tobytes() for image in kinds[kind]}) > 85, kind


def test_what_is_drawn_fills_the_box_of_a_digit(digits: tuple[np.ndarray, np.ndarray]):
    made = np.split(make_non_digits(*digits, 100 * len(KINDS), 0)[..., 0], len(KINDS))
    for image in np.concatenate(made[len(UNDONE) :][: len(DRAWN)]):
        rows, columns = (np.flatnonzero(image.max(axis) > 64) for axis in (1, 0))
        extent = max(np.ptp(rows), np.ptp(columns)) + 1
        assert 18 <= extent <= 25
