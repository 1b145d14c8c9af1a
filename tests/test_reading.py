"""Several digits in one picture: what is found, in what order, and how often it is right."""

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import fit_reading
from benchmarks.pages import edits
from jaxdigits import layout
from jaxdigits.candidates import WEIGHTS, Weights, skip_cost
from jaxdigits.dataset import Dataset
from jaxdigits.errors import DataError
from jaxdigits.page import ink_of
from jaxdigits.reading import Line, Reading, lines_of, read
from jaxdigits.recognizer import Recognizer, load
from tests.pages import KINDS, Page, compose, make_page


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return load()


def page_of(mnist: Dataset, *texts: str, seed: int = 0, touching: float = 0.0, height: float = 40) -> Page:
    """Black digits on white paper."""
    random = np.random.default_rng(seed)
    return compose(texts, *mnist.train, random, height=height, touching=touching, plain=True)


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """The area that two boxes share, as a part of what they cover together."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = np.prod(np.maximum(sides, 0))
    return float(shared / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - shared))


# ---- pages ----


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_as_its_seed_says_and_its_boxes_hold_its_ink(mnist: Dataset, kind: str):
    pages = [make_page(*mnist.train, np.random.default_rng(seed), kind) for seed in (5, 5, 6)]  # pyright: ignore[reportArgumentType]
    assert np.array_equal(pages[0].picture, pages[1].picture)
    assert pages[0].text == pages[1].text != pages[2].text
    for page in pages:
        assert page.text.replace("\n", "").isdigit()
        assert len(page.boxes) == sum(map(len, page.lines))
        height, width = page.picture.shape[:2]
        assert (page.boxes >= 0).all()
        assert (page.boxes[:, [2, 3]] <= (width, height)).all()


def test_all_ink_of_a_plain_page_lies_in_its_boxes(mnist: Dataset):
    page = page_of(mnist, "1234567890", "55")
    inside = np.zeros(page.picture.shape[:2], bool)
    for left, top, right, bottom in page.boxes:
        inside[top:bottom, left:right] = True
    assert page.picture[~inside].min() == 255
    assert page.touching == 0
    assert page_of(mnist, "1234567890", touching=1.0).touching == 9


@pytest.mark.parametrize(
    ("text", "truth", "distance"),
    [("", "", 0), ("", "123", 3), ("123", "", 3), ("1\n2", "12", 1), ("2315", "123", 3)],
)
def test_edits_are_the_levenshtein_distance(text: str, truth: str, distance: int):
    assert edits(text, truth) == edits(truth, text) == distance


# ---- layout ----


def test_the_atoms_of_a_component_share_out_its_pixels(mnist: Dataset):
    page = page_of(mnist, "8205", touching=1.0)
    ink = ink_of(page.picture)
    strokes = layout.strokes_of(ink > 127)
    largest = int(np.bincount(strokes.labels[strokes.labels >= 0]).argmax())
    atoms = layout.atoms_of(strokes, largest, 40)
    assert len(atoms) > 1
    counted = np.zeros(ink.shape, int)
    for atom in atoms:
        left, top, right, bottom = atom.box
        assert atom.mask.shape == (bottom - top, right - left)
        for side in (atom.mask[0], atom.mask[-1], atom.mask[:, 0], atom.mask[:, -1]):
            assert side.any()
        counted[top:bottom, left:right] += atom.mask
    assert np.array_equal(counted, strokes.labels == largest)


def test_lines_are_those_of_the_page(mnist: Dataset):
    page = page_of(mnist, "123", "4567", "89")
    lines = layout.lines_of(layout.strokes_of(ink_of(page.picture) > 127))
    assert len(lines) == 3
    for _, height in lines:
        assert height == pytest.approx(40, rel=0.15)


def test_no_ink_has_no_lines():
    assert layout.lines_of(layout.strokes_of(np.zeros((50, 80), bool))) == []


# ---- reading ----


@pytest.mark.parametrize("noise", [0, 4])
def test_a_page_without_ink_is_read_as_nothing(recognizer: Recognizer, noise: float):
    shade = np.linspace(150, 240, 300)[None] + np.random.default_rng(0).normal(
        0, max(noise, 1e-9), (200, 300)
    )
    for picture in (np.full((200, 300), 230, np.uint8), np.clip(shade, 0, 255).astype(np.uint8)):
        reading = read(picture, recognizer)
        assert reading.text == ""
        assert reading.lines == reading.digits == ()
        assert len(reading) == 0


def test_one_digit_is_read_as_one(recognizer: Recognizer, mnist: Dataset):
    image = mnist.train.images[mnist.train.labels == 3][0, :, :, 0]
    reading = read(image, recognizer)
    assert reading.text == "3"
    (digit,) = reading.digits
    assert digit.digit == int(digit.probabilities.argmax()) == 3
    assert digit.probability == digit.probabilities.max()
    assert digit.probabilities.sum() == pytest.approx(1, abs=1e-5)


def test_lines_from_top_to_bottom_and_digits_from_left_to_right_each_in_its_box(
    recognizer: Recognizer, mnist: Dataset
):
    page = page_of(mnist, "31415", "92", "6535", seed=3)
    reading = read(page.picture, recognizer)
    assert [len(line) for line in reading.lines] == [5, 2, 4]
    height, width = page.picture.shape[:2]
    for digit, truth in zip(reading.digits, page.boxes, strict=True):
        left, top, right, bottom = digit.box
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert overlap(np.array(digit.box), truth) > 0.7
    assert edits(reading.text, page.text) <= 1


def test_boxes_are_in_pixels_of_the_picture_however_large_it_is(recognizer: Recognizer, mnist: Dataset):
    page = page_of(mnist, "407", height=100)
    factor = -(-2500 // page.picture.shape[1])
    picture = page.picture.repeat(factor, axis=0).repeat(factor, axis=1)
    reading = read(picture, recognizer)
    for digit, truth in zip(reading.digits, page.boxes * factor, strict=True):
        assert overlap(np.array(digit.box), truth) > 0.8


def test_light_ink_on_dark_paper_is_read_as_well(recognizer: Recognizer, mnist: Dataset):
    page = page_of(mnist, "52062", seed=4)
    dark, light = read(page.picture, recognizer), read(255 - page.picture, recognizer)
    assert dark.text == light.text
    assert read(page.picture, recognizer, invert=True).text == dark.text
    assert read(255 - page.picture, recognizer, invert=False).text == dark.text


def test_points_commas_and_dust_are_no_digits(recognizer: Recognizer, mnist: Dataset):
    page = page_of(mnist, "1.234,56", "78.90", seed=1)
    picture, random = page.picture.copy(), np.random.default_rng(0)
    for row, column in random.integers(0, np.array(picture.shape[:2]) - 2, (30, 2)):
        picture[row : row + 2, column : column + 2] = 0
    assert [len(line) for line in read(page.picture, recognizer).lines] == [6, 4]
    assert [len(line) for line in read(picture, recognizer).lines] == [6, 4]


@pytest.mark.parametrize("broken", [0, 1, 4])
def test_strokes_that_lie_apart_are_one_digit(recognizer: Recognizer, mnist: Dataset, broken: int):
    """A digit with a cut through its middle, as a pen that skips leaves it, among others."""
    page = page_of(mnist, "35268", seed=2, height=60)
    picture = page.picture.copy()
    left, top, right, bottom = page.boxes[broken]
    middle = (top + bottom) // 2
    picture[middle - 1 : middle + 2, left:right] = 255
    reading = read(picture, recognizer)
    assert [len(line) for line in reading.lines] == [5]
    assert overlap(np.array(reading.digits[broken].box), page.boxes[broken]) > 0.7


def test_digits_that_touch_are_parted(recognizer: Recognizer, mnist: Dataset):
    counts = []
    for seed in range(12):
        page = page_of(mnist, "27", "35", "60", "82", seed=seed, touching=1.0)
        counts += [len(line) == 2 for line in read(page.picture, recognizer).lines]
    assert np.mean(counts) > 0.7


def test_composed_pages_are_read(recognizer: Recognizer, mnist: Dataset):
    """Far below what the benchmark measures: this is to notice that something broke."""
    random = np.random.default_rng(0)
    wrong = digits = 0
    for _ in range(12):
        page = make_page(*mnist.test, random)
        digits += sum(map(len, page.lines))
        wrong += edits(read(page.picture, recognizer).text, page.text)
    assert 1 - wrong / digits > 0.9


def test_a_reading_shows_what_was_read(recognizer: Recognizer, mnist: Dataset):
    page = page_of(mnist, "12", "3")
    reading = read(page.picture, recognizer)
    assert isinstance(reading, Reading)
    assert reading.text.count("\n") == 1
    assert repr(reading.text) in repr(reading)
    assert str(reading.digits[0].digit) in repr(reading.digits[0])
    assert reading.probability == pytest.approx(np.prod([digit.probability for digit in reading.digits]))


@pytest.mark.parametrize("picture", [b"no picture", [np.zeros((40, 40), np.uint8)] * 2, "missing.png", []])
def test_what_is_not_one_picture_is_an_error(recognizer: Recognizer, picture: object):
    with pytest.raises(DataError):
        read(picture, recognizer)


# ---- fitting ----


@pytest.fixture(scope="module")
def known(recognizer: Recognizer, mnist: Dataset) -> list[tuple[Line, str]]:
    page = page_of(mnist, "27", "35", "60", seed=3, touching=1.0)
    return list(zip(lines_of(ink_of(page.picture), recognizer), page.lines, strict=True))


def test_likelihoods_are_shares_of_all_paths(known: list[tuple[Line, str]]):
    """The forward algorithm against every single path, written out."""

    def paths(line: Line, start: int = 0) -> list[tuple[float, str]]:
        lattice, scores = line.lattice, line.features @ np.array(WEIGHTS)
        if start == len(lattice.atoms):
            return [(0.0, "")]
        found = [(score - skip_cost(lattice, start), text) for score, text in paths(line, start + 1)]
        for i, (first, stop) in enumerate(lattice.spans):
            if first == start:
                digit = str(line.probabilities[i].argmax())
                found += [(scores[i] + score, digit + text) for score, text in paths(line, stop)]
        return found

    likelihoods = np.exp(fit_reading.log_likelihoods(jnp.array(WEIGHTS), fit_reading.trellis_of(known)))
    for (line, truth), likelihood in zip(known, likelihoods, strict=True):
        every = [(np.exp(score), text) for score, text in paths(line)]
        right = sum(odds for odds, text in every if text == truth)
        assert likelihood == pytest.approx(right / sum(odds for odds, _ in every), rel=1e-4, abs=1e-12)
    assert likelihoods.max() > 0.5


def test_fitting_makes_the_right_readings_more_probable(known: list[tuple[Line, str]]):
    trellis = fit_reading.trellis_of(known)
    poor = Weights(*(0.5 * weight for weight in WEIGHTS))
    fitted = fit_reading.fit(trellis, poor)
    before, after = (fit_reading.log_likelihoods(jnp.array(w), trellis).mean() for w in (poor, fitted))
    assert after > before
    for name in fit_reading.KEPT:
        assert getattr(fitted, name) == getattr(poor, name)
