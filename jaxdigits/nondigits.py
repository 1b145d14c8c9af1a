"""Images of what is no digit, made for a network to learn to refuse.

More than a quarter of them are digits undone: turned, mirrored, cut into quarters, laid over one another. The
rest is drawn: letters, strokes, arcs and outlines at random, smooth noise at all scales, paper with hardly
anything on it.
What they are worth for things that others find - printed letters, scribbles, doodles, photographs, clothes
- `benchmarks.outliers` measures, with images of its own making.

To learn from images of what is not wanted is the outlier exposure of Hendrycks et al. (2019, "Deep anomaly
detection with outlier exposure"); to give it a class of its own is older (Le Cun et al. 1990, "Handwritten
digit recognition with a back-propagation network").
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int, UInt8

__all__ = ["make_non_digits"]

Images = UInt8[np.ndarray, "n 28 28"]
Digits = Callable[[np.ndarray], Images]  # by their indices

_SIDE = 28  # pixels
_STREAM = 1990  # sets these random numbers apart from others of the same seed
# Digits that mirroring, a quarter turn to either side, and a half turn make no other digit of.
_MIRRORED, _QUARTER, _HALF = (3, 4, 6, 7, 9), (2, 3, 4, 5, 7, 8), (3, 4, 7)

# Letters that are no digit in any common hand: the ends and corners of their strokes, by column and row;
# "~" marks a curve.
_LETTERS = (
    "a5c1e5 b3d3", "~e1c1a1a3a5c5e5", "e1a1a5e5 a3d3", "e1a1a5 a3d3", "a1a5 e1e5 a3e3", "~d1d3d5b5a4",
    "d1d3 ~d3d5b5a4 b1e1", "a1a5 e1a3e5", "a1a5e5", "a5a1c3e1e5", "a5a1e5e1", "a5a1 ~a1e1e3a3",
    "a5a1 ~a1e1e3a3 b3e5", "a1e1 c1c5", "~a1a3a5c5e5e3e1", "a1a3 ~a3a5c5e5e3 e3e1", "a1c5e1", "a1b5c2d5e1",
    "a1e5 e1a5", "a1c3 e1c3 c3c5", "~b2c1d1d3 d2d5 ~d3b3a4b5d4", "~d3c2a3a5c5d4 d2d5", "e1e5 ~e3c2a3a5c5e4",
    "~a4e4e2b2a3a5c5e5", "~e1c1c3 c3c5 a3e3", "a1a5 ~a4b2e2e4 e4e5", "~d2d4d5b5", "a1a5 d2a4d5",
    "a2a5 ~a3b2c2c4 c4c5 ~c3d2e2e4 e4e5", "a2a5 ~a3c2e2e4 e4e5", "a2a5 ~a3b2e2", "c1c5 a2e2",
    "~a2a4a5e5e3e2 e2e5", "a1c3 e1a5",
)  # fmt: skip


def make_non_digits(
    images: UInt8[np.ndarray, "m 28 28 1"], labels: Int[np.ndarray, " m"], count: int, seed: int
) -> UInt8[np.ndarray, "n 28 28 1"]:
    """Makes `count` images of no digit, the same number of each kind, but twice as many arcs and letters.

    Args:
      images: digits, white on black. Four for every ten to be made are looked at.
      labels: which they are, from 0 to 9.
      count: how many to make.
      seed: the same one gives the same images.
    """

    def digits(index: np.ndarray) -> Images:
        return np.asarray(images[index])[..., 0]

    rng = np.random.default_rng([seed, _STREAM])
    undone = (_turned, _quarters, _overlaid)
    drawn = (_strokes, _arcs, _arcs, _outlines, _letters, _letters, _clouds, _empty)
    shares = np.diff(np.linspace(0, count, len(undone) + len(drawn) + 1).astype(int)).tolist()
    parts = [kind(digits, labels, shares.pop(), rng) for kind in undone]
    parts += [kind(shares.pop(), rng) for kind in drawn]
    return np.concatenate(parts)[..., None]


def _turned(digits: Digits, labels: np.ndarray, n: int, rng: np.random.Generator) -> Images:
    """Digits mirrored, turned by a quarter to the left or to the right, or by a half."""
    ways = ((_MIRRORED, 0, True), (_QUARTER, 1, False), (_QUARTER, 3, False), (_HALF, 2, False))
    made = []
    for share, (which, turns, mirror) in zip(np.diff(np.linspace(0, n, 5).astype(int)), ways, strict=True):
        chosen = digits(rng.choice(np.flatnonzero(np.isin(labels, which)), share))
        chosen = np.rot90(chosen, turns, axes=(1, 2))
        made.append(chosen[:, :, ::-1] if mirror else chosen)
    return np.concatenate(made)


def _quarters(digits: Digits, labels: np.ndarray, n: int, rng: np.random.Generator) -> Images:
    """Quarters of a digit in each other's places, of which some are turned."""
    half = _SIDE // 2
    chosen = np.empty(n, int)
    orders, turns = np.empty((2, n, 4), int)
    for index in range(n):
        chosen[index], order = rng.integers(len(labels)), rng.permutation(4)
        while np.count_nonzero(order == np.arange(4)) > 1:
            order = rng.permutation(4)
        orders[index], turns[index] = order, [rng.integers(4) for _ in range(4)]
    made = np.empty((n, _SIDE, _SIDE), np.uint8)
    for image, digit, order, turned in zip(made, digits(chosen), orders, turns, strict=True):
        for place, source in enumerate(order):
            part = digit[source // 2 * half :, source % 2 * half :][:half, :half]
            part = np.rot90(part, int(turned[place]))
            image[place // 2 * half :, place % 2 * half :][:half, :half] = part
    return made


def _overlaid(digits: Digits, labels: np.ndarray, n: int, rng: np.random.Generator) -> Images:
    """Two different digits over one another, up to half a digit apart, or squeezed side by side."""
    first, second = rng.integers(len(labels), size=(2, n))
    while (same := labels[first] == labels[second]).any():
        second = np.where(same, rng.integers(len(labels), size=n), second)
    ones, others = digits(first), digits(second)
    made = np.empty_like(ones)
    beside = np.concatenate([ones, others], axis=2)[:, :, 1::2]
    for image, one, other, shift in zip(made, ones, others, rng.integers(-9, 10, (n, 2)), strict=True):
        apart = [np.roll(digit, by, (0, 1)) for digit, by in ((one, -shift // 2), (other, shift // 2))]
        image[:] = np.maximum(*apart)
    made[: n // 3] = beside[: n // 3]
    return made


def _strokes(n: int, rng: np.random.Generator) -> Images:
    """Two to four strokes, straight or bent.

    Every second image has them go between the nine places at which letters, too, begin and end.
    """
    made = np.empty((n, _SIDE, _SIDE), np.uint8)
    for index, image in enumerate(made):
        lines = []
        for _ in range(rng.integers(2, 5)):
            points = rng.random((rng.integers(2, 5), 2))
            if index % 2:
                points = np.rint(2 * points) / 2 + rng.normal(0, 0.03, points.shape)
            lines.append(_bent(points) if rng.random() < 0.5 else points)
        image[:] = _drawn(lines, rng)
    return made


def _arcs(n: int, rng: np.random.Generator) -> Images:
    """Two to four arcs of ellipses that may wind inwards, every second time about the same middle."""
    made = np.empty((n, _SIDE, _SIDE), np.uint8)
    for index, image in enumerate(made):
        lines, middle = [], np.zeros(2)
        for _ in range(rng.integers(2, 5)):
            angle = 2 * np.pi * (rng.random() + np.linspace(0, rng.uniform(0.3, 1.5), 30))
            radius = np.linspace(1, rng.uniform(0.3, 1), 30)[:, None] * rng.uniform(0.2, 1, 2)
            if index % 2:
                middle = rng.uniform(-0.7, 0.7, 2)
            lines.append(np.stack([np.sin(angle), np.cos(angle)], axis=1) * radius + middle)
        image[:] = _drawn(lines, rng)
    return made


def _outlines(n: int, rng: np.random.Generator) -> Images:
    """In turn: polygons of three to five corners, ovals with something in them, spirals: no hand's 0."""
    made = np.empty((n, _SIDE, _SIDE), np.uint8)
    for index, image in enumerate(made):
        radius = rng.uniform(0.6, 1, 2)
        if index % 3 == 0:
            corners = int(rng.integers(3, 6))
            angle = rng.uniform(0, 2 * np.pi) + np.linspace(0, 2 * np.pi, corners + 1)
            angle[1:-1] += rng.normal(0, 0.15, corners - 1)
            lines = [np.stack([np.sin(angle), np.cos(angle)], axis=1) * radius]
        elif index % 3 == 1:
            lines = [_turns(1, 1) * radius]
            for _ in range(rng.integers(2, 5)):
                angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.35)
                mark = reach * np.array([np.sin(angle), np.cos(angle)])
                lines.append(rng.uniform(-0.3, 0.3, 2) + np.stack([-mark, mark]))
        else:
            lines = [
                _turns(rng.uniform(1.8, 3.5), rng.uniform(0, 0.25)) @ np.diag(radius * rng.choice([-1, 1], 2))
            ]
        image[:] = _drawn(lines, rng)
    return made


def _turns(turns: float, end: float) -> Float[np.ndarray, "k 2"]:
    """A circle of radius 1, or a spiral from there to the radius `end`."""
    angle = 2 * np.pi * np.linspace(0, turns, 60)
    return np.linspace(1, end, 60)[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)


def _letters(n: int, rng: np.random.Generator) -> Images:
    """Letters, each part as a line or as a curve, by an unsteady and slanted hand."""
    made = np.empty((n, _SIDE, _SIDE), np.uint8)
    for index, image in enumerate(made):
        lines = []
        for part in _LETTERS[index % len(_LETTERS)].split():
            word = part.strip("~")
            columns, rows = ("abcde".index(x) for x in word[::2]), (int(y) - 1 for y in word[1::2])
            points = np.array([*zip(columns, rows, strict=True)]) / 4
            points = points + rng.normal(0, 0.04, points.shape)
            lines.append(_bent(points) if part != word else points)
        hand = np.array([[rng.uniform(0.6, 1.1), 0], [0, 1]]) + rng.uniform(-0.25, 0.25, (2, 2))
        image[:] = _drawn([line @ hand for line in lines], rng)
    return made


def _drawn(lines: list[Float[np.ndarray, "k 2"]], rng: np.random.Generator) -> UInt8[np.ndarray, "28 28"]:
    """Lines, in any unit, fitted into the box of a digit and drawn with a pen of 1.2 to 4 pixels."""
    from PIL import Image, ImageDraw

    scale, box = 4, 20  # drawn at four times the size; pixels
    every = np.concatenate(lines)
    low, extent = every.min(axis=0), np.ptp(every, axis=0)
    margin = (_SIDE - box * extent / extent.max()) / 2
    picture = Image.new("L", (_SIDE * scale, _SIDE * scale))
    pen, width = ImageDraw.Draw(picture), int(rng.uniform(1.2, 4) * scale)
    for line in lines:
        places = ((line - low) / extent.max() * box + margin) * scale
        pen.line([tuple(place) for place in places], fill=255, width=width, joint="curve")
    return np.asarray(picture.resize((_SIDE, _SIDE), Image.Resampling.BOX))


def _bent(points: Float[np.ndarray, "k 2"]) -> Float[np.ndarray, "m 2"]:
    """A smooth curve near the points: a quadratic spline of which they are the control points."""
    middles = (points[:-1] + points[1:]) / 2
    t = np.linspace(0, 1, 8)[:, None]
    parts = [
        (1 - t) ** 2 * start + 2 * t * (1 - t) * point + t**2 * end
        for start, point, end in zip(middles[:-1], points[1:-1], middles[1:], strict=True)
    ]
    return np.concatenate([points[:1], *parts, points[-1:]])


def _clouds(n: int, rng: np.random.Generator) -> Images:
    """Noise without the frequencies above some random bound, of random contrast; half black and white."""
    frequency = np.hypot(np.fft.fftfreq(_SIDE)[:, None], np.fft.fftfreq(_SIDE)[None, :])
    bound = np.exp(rng.uniform(np.log(0.03), np.log(0.5), (n, 1, 1)))
    spectrum = np.fft.fft2(rng.normal(size=(n, _SIDE, _SIDE))) * np.exp(-((frequency / bound) ** 2))
    field = np.fft.ifft2(spectrum).real
    field = field / (field.std(axis=(1, 2), keepdims=True) + 1e-9) + rng.uniform(-1.5, 1, (n, 1, 1))
    hard = np.where(rng.random((n, 1, 1)) < 0.5, 20.0, rng.uniform(0.2, 1, (n, 1, 1)))
    return (255 * np.clip(field * hard + rng.uniform(0, 0.5, (n, 1, 1)), 0, 1)).astype(np.uint8)


def _empty(n: int, rng: np.random.Generator) -> Images:
    """Black, an even grey, or up to three specks."""
    made = np.zeros((n, _SIDE, _SIDE), np.uint8)
    for index, image in enumerate(made):
        if index % 4 == 0:
            image[:] = rng.integers(256) if rng.random() < 0.5 else 0
        for _ in range(rng.integers(1, 4) if index % 4 else 0):
            top, left, height, width = *rng.integers(3, 22, 2), *rng.integers(1, 5, 2)
            image[top : top + height, left : left + width] = rng.integers(60, 256)
    return made
