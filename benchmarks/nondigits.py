"""Things that are no digits, in MNIST's form, to measure what a model makes of them.

Each kind is a function (n, seed) to uint8 [n, 28, 28, 1], white on black. What is drawn or written is fitted
into 20x20 and centred by mass, as MNIST's digits are; noise, textures, scenes and empty paper fill the frame.
The same seed gives the same images, where the fonts are the same. They are made for measuring alone
(`outliers`): nothing is trained on them. Which kinds `jaxdigits.nondigits` makes, and how strong the preset
`robust` varies its images, was chosen with an eye on them, under another seed.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from benchmarks import filters
from jaxdigits.errors import DataError

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

__all__ = ["FASHION", "KINDS", "LETTERS", "fonts"]

Images = UInt8[np.ndarray, "n 28 28 1"]

LETTERS = "ACEFHJKLMNPRTUVWXYacdefhjkmnprtuvwxy"
"""Of A to Z and a to z, those that are no digit in any common hand or font. Left out: O o D Q (0), I i l (1),
Z z (2), S s (5), G b (6), B (8), g q (9)."""

FASHION = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""

_SIDE, _BOX, _MIDDLE = 28, 20, 14  # pixels: MNIST's frame, the box of a digit, its centre of mass
_CANVAS = 120  # pixels: what is drawn at six times its size is smooth once it is fitted into the box


def _placed(ink: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "28 28"]:
    """White on black of any size, fitted into the box, aspect kept, and centred by mass."""
    from PIL import Image

    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = (max(1, round(side * _BOX / max(ink.shape))) for side in ink.shape)
    ink = np.asarray(Image.fromarray(ink).resize((width, height), Image.Resampling.BOX))
    result, offsets = np.zeros((_SIDE, _SIDE), np.uint8), []
    for axis, side in enumerate(ink.shape):
        middle = np.average(np.arange(side), weights=ink.sum(1 - axis, dtype=float) + 1e-9)
        offsets.append(int(np.clip(round(_MIDDLE - middle), 0, _SIDE - side)))
    result[offsets[0] : offsets[0] + height, offsets[1] : offsets[1] + width] = ink
    return result


def _each(
    draw: Callable[[np.random.Generator, int], UInt8[np.ndarray, "28 28"]], n: int, seed: int
) -> Images:
    """`n` images, each by a random generator of its own: the first ones do not depend on `n`."""
    images = [draw(np.random.default_rng([seed, index]), index) for index in range(n)]
    return np.stack(images)[:, :, :, None] if images else np.zeros((0, _SIDE, _SIDE, 1), np.uint8)


@functools.cache
def fonts() -> tuple["FreeTypeFont", ...]:
    """The fonts of this machine, and Matplotlib's, in which every one of `LETTERS` has a shape of its own."""
    from matplotlib import font_manager, get_data_path
    from PIL import ImageFont

    own = Path(get_data_path(), "fonts", "ttf").glob("DejaVu*.ttf")
    files = {Path(path).name: Path(path) for path in [*own, *font_manager.findSystemFonts()]}
    found = []
    for name in sorted(files):
        try:
            font = ImageFont.truetype(str(files[name]), _CANVAS)
            shapes = {_written(letter, font).tobytes() for letter in LETTERS}
        except (OSError, ValueError):  # no font that FreeType can draw at this size
            continue
        if len(shapes) == len(LETTERS):  # a symbol font draws one and the same box for what it lacks
            found.append(font)
    if not found:
        raise DataError("there is no font to draw letters with; install one, such as DejaVu Sans")
    return tuple(found)


def _written(letter: str, font: "FreeTypeFont", degrees: float = 0.0) -> UInt8[np.ndarray, "side side"]:
    """A letter in the middle of a black square, turned anticlockwise."""
    from PIL import Image, ImageDraw

    side = 2 * _CANVAS
    picture = Image.new("L", (side, side))
    ImageDraw.Draw(picture).text((_CANVAS, _CANVAS), letter, fill=255, font=font, anchor="mm")
    return np.asarray(picture.rotate(degrees, Image.Resampling.BILINEAR))


def letters(n: int, seed: int) -> Images:
    """`LETTERS` in every font there is, turned by up to ten degrees."""

    def draw(rng: np.random.Generator, _: int) -> np.ndarray:
        font, letter = fonts()[rng.integers(len(fonts()))], LETTERS[rng.integers(len(LETTERS))]
        return _placed(_written(letter, font, rng.uniform(-10, 10)))

    return _each(draw, n, seed)


def _strokes(lines: list[np.ndarray], rng: np.random.Generator) -> UInt8[np.ndarray, "28 28"]:
    """Lines [points, 2] of any size, drawn with a pen of 1.2 to 2.5 pixels of the result."""
    from PIL import Image, ImageDraw

    every = np.concatenate(lines)
    low, extent = every.min(axis=0), np.ptp(every, axis=0).max()
    width = int(rng.uniform(1.2, 2.5) * _CANVAS / _BOX)
    side = _CANVAS + 2 * width
    picture = Image.new("L", (side, side))
    pen = ImageDraw.Draw(picture)
    for line in lines:
        points = [tuple(point) for point in (line - low) / extent * _CANVAS + width]
        pen.line(points, fill=255, width=width, joint="curve")
        for x, y in points:
            pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
    return _placed(np.asarray(picture))


def scribbles(n: int, seed: int) -> Images:
    """One or two smooth strokes that wind about: sums of harmonics, with none so low as to draw a digit."""
    time, order = np.linspace(0, 1, 150)[:, None], np.arange(3, 8)

    def stroke(rng: np.random.Generator) -> np.ndarray:
        phases, heights = rng.uniform(0, 2 * np.pi, (2, 5)), rng.normal(size=(2, 5))
        waves = np.sin(np.pi * order * time[None] + phases[:, None])  # [2, times, harmonics]
        path = (waves * heights[:, None]).sum(axis=2).T
        return path / path.std(axis=0) + rng.uniform(-1, 1, 2)  # as wide as high: no slash

    def draw(rng: np.random.Generator, _: int) -> np.ndarray:
        return _strokes([stroke(rng) for _ in range(rng.integers(1, 3))], rng)

    return _each(draw, n, seed)


def _ring(points: int, turns: float = 1.0, end: float = 1.0, start: float = 0.0) -> np.ndarray:
    """Points on a circle of radius 1, or on a spiral from it to the radius `end`."""
    angle = 2 * np.pi * (start + np.linspace(0, turns, points))
    return np.linspace(1, end, points)[:, None] * np.stack([np.sin(angle), -np.cos(angle)], axis=1)


_LINES = {
    "star": [_ring(6, turns=2)],
    "house": [[(-1, 1), (-1, -0.2), (0, -1), (1, -0.2), (1, 1), (-1, 1)],
              [(-0.2, 1), (-0.2, 0.4), (0.3, 0.4), (0.3, 1)]],
    "arrow": [[(-1, 0), (1, 0)], [(0.4, -0.5), (1, 0), (0.4, 0.5)]],
    "spiral": [_ring(80, turns=2.5, end=0.05)],
    "smiley": [_ring(40), _ring(12, 0.4, start=0.3) * 0.55,
               [(-0.35, -0.4), (-0.35, -0.25)], [(0.35, -0.4), (0.35, -0.25)]],
    "plus": [[(-1, 0), (1, 0)], [(0, -1), (0, 1)]],
    "cross": [[(-1, -1), (1, 1)], [(-1, 1), (1, -1)]],
    "triangle": [_ring(4)],
    "square": [[(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]],
    "sun": [_ring(30) * 0.5, *([(0.7 * x, 0.7 * y), (x, y)] for x, y in _ring(9)[:-1])],
    "hash": [[(-0.4, -1), (-0.4, 1)], [(0.4, -1), (0.4, 1)], [(-1, -0.4), (1, -0.4)], [(-1, 0.4), (1, 0.4)]],
    "wave": [np.stack([np.linspace(-1, 1, 60), 0.3 * np.sin(np.linspace(0, 6 * np.pi, 60))], axis=1)],
}  # fmt: skip


def doodles(n: int, seed: int) -> Images:
    """Stars, houses, arrows, spirals, smileys, crosses, triangles and the like, drawn by an unsteady hand."""

    def draw(rng: np.random.Generator, index: int) -> np.ndarray:
        lines = [*_LINES.values()][index % len(_LINES)]
        angle = rng.uniform(-0.35, 0.35)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        hand = (np.eye(2) + rng.uniform(-0.2, 0.2, (2, 2))) @ turn
        return _strokes(
            [np.asarray(line) @ hand.T + rng.normal(0, 0.03, (len(line), 2)) for line in lines], rng
        )

    return _each(draw, n, seed)


def _grey(values: Float[np.ndarray, "28 28"]) -> UInt8[np.ndarray, "28 28"]:
    """From 0 to 1, cut off beyond, to grey levels."""
    return np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)


def noise(n: int, seed: int) -> Images:
    """In turn: Gaussian about a random level, uniform from black to white, white pixels of random density."""

    def draw(rng: np.random.Generator, index: int) -> np.ndarray:
        level = rng.uniform(0.02, 0.5)
        if index % 3 == 0:
            return _grey(rng.normal(level, rng.uniform(0.1, 0.4), (_SIDE, _SIDE)))
        values = rng.random((_SIDE, _SIDE))
        return _grey(values if index % 3 == 1 else (values < level).astype(float))

    return _each(draw, n, seed)


def textures(n: int, seed: int) -> Images:
    """In turn: checkerboards, stripes with sharp or soft edges, gradients, rings."""
    y, x = np.mgrid[:_SIDE, :_SIDE].astype(float)

    def draw(rng: np.random.Generator, index: int) -> np.ndarray:
        period, phase, angle = rng.uniform(2, 10), rng.uniform(0, 10, 2), rng.uniform(0, 2 * np.pi)
        along = np.cos(angle) * x + np.sin(angle) * y
        match index % 4:
            case 0:
                values = ((x + phase[0]) // period + (y + phase[1]) // period) % 2
            case 1:
                values = 0.5 + rng.choice([0.5, 10.0]) * np.sin(2 * np.pi * (along + phase[0]) / period)
            case 2:
                values = (along - along.min()) / np.ptp(along)
            case _:
                distance = np.hypot(x - rng.uniform(0, _SIDE), y - rng.uniform(0, _SIDE))
                values = 0.5 + 0.5 * np.sin(2 * np.pi * distance / period)
        return _grey(rng.uniform(0.4, 1) * values)

    return _each(draw, n, seed)


def scenes(n: int, seed: int) -> Images:
    """Corners of something like photographs: cloudy fields; every second one in black and white alone."""

    def draw(rng: np.random.Generator, index: int) -> np.ndarray:
        field = filters.plasma(1, 64, rng.uniform(1.2, 1.8), rng, crop=_SIDE)[0]
        field = (field - field.min()) / np.ptp(field)
        return _grey((field > rng.uniform(0.3, 0.8)).astype(float) if index % 2 else field)

    return _each(draw, n, seed)


def specks(n: int, seed: int) -> Images:
    """Paper with nothing on it but its grain and up to six specks of one to three pixels."""

    def draw(rng: np.random.Generator, _: int) -> np.ndarray:
        values = np.abs(rng.normal(0, rng.uniform(0, 0.04), (_SIDE, _SIDE)))
        for _ in range(rng.integers(0, 7)):
            top, left = rng.integers(0, _SIDE - 2, 2)
            height, width = rng.integers(1, 3, 2)
            values[top : top + height, left : left + width] += rng.uniform(0.2, 1)
        return _grey(values)

    return _each(draw, n, seed)


def fashion(n: int, seed: int) -> Images:
    """Clothes: test images of Fashion-MNIST (Xiao et al. 2017), drawn without repetition, at most all 10,000.

    Raises:
      DataError: Debian's package is not installed.
    """
    from jaxdigits import dataset

    if not FASHION.is_dir():
        raise DataError(f"there is no {FASHION}; install Debian's dataset-fashion-mnist")
    images = dataset.load("fashion_mnist", data_dir=FASHION).test.images
    return images[np.random.default_rng(seed).permutation(len(images))[:n]]


KINDS: dict[str, Callable[[int, int], Images]] = {
    make.__name__: make for make in (letters, scribbles, doodles, noise, textures, scenes, specks, fashion)
}
"""Makers of things that are no digits, by name: (n, seed) to uint8 [n, 28, 28, 1]."""
