"""Shapes in a picture: sliding extremes, connected components, stroke widths, other sizes.

What finds a digit on paper is made of these. They know nothing of digits, files or MNIST: that is
`image`. Arrays are [height, width], grey ones uint8, where an operation costs one pass of the
processor's vector unit and a window of any size a logarithmic number of passes.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

__all__ = [
    "Components",
    "closed",
    "components",
    "dilated",
    "eroded",
    "opened",
    "quantiles",
    "resized",
    "smoothed",
    "stroke_width",
    "thickened",
]

Window = int | tuple[int, int]


def dilated(values: np.ndarray, window: Window) -> np.ndarray:
    """The largest value of a window around each pixel; beyond the edge lies what is on it.

    Args:
      values: [h, w].
      window: its height and width in pixels, made odd by rounding up; one number is both.
    """
    return _slid(values, window, np.maximum)


def eroded(values: np.ndarray, window: Window) -> np.ndarray:
    """The smallest value of a window around each pixel, as in `dilated`."""
    return _slid(values, window, np.minimum)


def closed(values: np.ndarray, window: Window) -> np.ndarray:
    """`values` without the dark shapes in which the window finds no room."""
    return eroded(dilated(values, window), window)


def opened(values: np.ndarray, window: Window) -> np.ndarray:
    """`values` without the light shapes in which the window finds no room."""
    return dilated(eroded(values, window), window)


def _slid(values: np.ndarray, window: Window, pick: Callable[..., np.ndarray]) -> np.ndarray:
    """Extremes over a rectangle: each axis on its own, by windows that double in length."""
    sizes = (window, window) if isinstance(window, int) else window
    for axis, size in enumerate(sizes):
        size = min(size, 2 * values.shape[axis]) | 1
        if size == 1:
            continue
        margin = size // 2
        ends = (values[:1], values[-1:]) if axis == 0 else (values[:, :1], values[:, -1:])
        first, last = (np.repeat(end, margin, axis) for end in ends)
        values = np.concatenate([first, values, last], axis)
        span = 1
        while span < size:
            step = min(span, size - span)
            values = (
                pick(values[:-step], values[step:])
                if axis == 0
                else pick(values[:, :-step], values[:, step:])
            )
            span += step
    return values


def thickened(ink: np.ndarray, radius: float) -> np.ndarray:
    """Ink grown by so many pixels on every side, soft edges kept; shrunk, where `radius` is negative.

    Squares and crosses in turn make an octagon, which is as good as a disc over a few pixels.

    Args:
      ink: uint8 [h, w], with a margin that growing does not leave.
      radius: pixels.
    """
    whole, part = divmod(abs(radius), 1)
    pick = np.maximum if radius > 0 else np.minimum
    for step in range(int(whole)):
        ink = _step(ink, pick, square=step % 2 == 1)
    if part:
        further = _step(ink, pick, square=int(whole) % 2 == 1)
        ink = np.rint(ink + part * (further.astype(np.float32) - ink)).astype(np.uint8)
    return ink


def _step(ink: np.ndarray, pick: Callable[..., np.ndarray], square: bool) -> np.ndarray:
    """The extreme of each pixel and its neighbours: all eight, or the four at its sides."""
    if square:
        return _slid(ink, 3, pick)
    return pick(_slid(ink, (3, 1), pick), _slid(ink, (1, 3), pick))


def resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture in another size, area-averaged where it shrinks and smooth where it grows."""
    from PIL import Image

    if pixels.shape[:2] == (height, width):
        return pixels
    picture = Image.fromarray(pixels)
    factor = min(pixels.shape[0] // height, pixels.shape[1] // width)
    if factor >= 2:
        picture = picture.reduce(factor)
    shrinks = height * width < pixels.shape[0] * pixels.shape[1]
    kind = Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC
    return np.asarray(picture.resize((width, height), kind))


def quantiles(values: np.ndarray, *shares: float) -> list[int]:
    """The grey levels below which lie these shares, from 0 to 1, of uint8 values of any shape."""
    below = np.cumsum(np.bincount(values.ravel(), minlength=256))
    return np.searchsorted(below, np.array(shares) * below[-1]).tolist()


def smoothed(values: np.ndarray) -> np.ndarray:
    """Values, uint8 [h, w], averaged by the weights 1 2 1 along both axes."""
    wide = np.pad(values, 1, mode="edge").astype(np.uint16)
    wide = wide[:-2] + 2 * wide[1:-1] + wide[2:]
    return ((wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:] + 8) >> 4).astype(np.uint8)


def stroke_width(ink: np.ndarray) -> float:
    """The mean width of strokes in pixels, from the area and the outline of ink, uint8 [h, w].

    A stroke of width w and length l has the area A = w l and the outline P = 2 (w + l), whence
    w = (P/2 - sqrt(P^2/4 - 4 A)) / 2. Soft edges count by their share: the outline is the sum of the
    slopes' lengths.
    """
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    if not len(rows):
        return 0.0
    share = np.pad(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1).astype(np.float32) / 255
    falling, rising = share[1:, 1:] - share[:-1, :-1], share[1:, :-1] - share[:-1, 1:]
    # The slope in the middle of four pixels is the root of half the sum of their diagonals' squares.
    half = float(np.sqrt(falling * falling + rising * rising).sum()) / math.sqrt(8)
    area = float(share.sum())
    return (half - math.sqrt(max(half * half - 4 * area, 0.0))) / 2


@dataclasses.dataclass(frozen=True)
class Components:
    """The connected shapes of a mask, diagonal neighbours counting as connected.

    Attributes:
      shape: height and width of the mask, in pixels.
      rows: the row of each run of ink within a row, in reading order, int [runs].
      starts: its first column.
      stops: the column after its last.
      labels: which shape it belongs to, from 0.
      areas: pixels of each shape, int [n].
      boxes: top, left, bottom and right of each (the latter two exclusive), int [n, 4].
    """

    shape: tuple[int, int]
    rows: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    boxes: np.ndarray

    def __len__(self) -> int:
        return len(self.areas)

    def mask(self, chosen: np.ndarray) -> np.ndarray:
        """The pixels of the chosen shapes, bool [h, w]; `chosen` is bool [n]."""
        height, width = self.shape
        edges = np.zeros((height, width + 1), np.int8)
        runs = chosen[self.labels]
        edges[self.rows[runs], self.starts[runs]] = 1
        edges[self.rows[runs], self.stops[runs]] -= 1
        return np.cumsum(edges[:, :-1], axis=1, dtype=np.int8).view(bool)


def components(mask: np.ndarray) -> Components:
    """The connected shapes of a mask, bool [h, w].

    Runs of neighbouring rows that touch are joined until nothing changes, each time with all pointers
    followed to their ends (Shiloach and Vishkin, "An O(log n) parallel connectivity algorithm", 1982).
    """
    height, width = mask.shape
    stride = width + 2  # a run at the end of a row and one at the start of the next do not touch
    padded = np.zeros((height, stride), np.int8)
    padded[:, 1:-1] = mask
    change = np.diff(padded.ravel(), prepend=np.int8(0))
    starts, stops = np.flatnonzero(change == 1), np.flatnonzero(change == -1)
    first = np.searchsorted(stops, starts + stride)
    last = np.searchsorted(starts, stops + stride, side="right")
    counts = np.maximum(last - first, 0)
    upper = np.repeat(np.arange(len(starts)), counts)
    lower = np.arange(len(upper)) + np.repeat(first - (np.cumsum(counts) - counts), counts)
    roots = np.arange(len(starts))
    while len(upper):
        one, other = roots[upper], roots[lower]
        apart = one != other
        if not apart.any():
            break
        np.minimum.at(roots, np.maximum(one, other)[apart], np.minimum(one, other)[apart])
        while (further := roots[roots]).tobytes() != roots.tobytes():
            roots = further
    _, labels = np.unique(roots, return_inverse=True)
    rows, columns = starts // stride, starts % stride - 1
    ends = columns + stops - starts
    return Components(mask.shape, rows, columns, ends, labels, *_measured(labels, rows, columns, ends))


def _measured(
    labels: np.ndarray, rows: np.ndarray, starts: np.ndarray, stops: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Areas, int [n], and boxes, int [n, 4], from runs."""
    count = int(labels.max()) + 1 if len(labels) else 0
    areas = np.bincount(labels, stops - starts, minlength=count).astype(np.int64)
    boxes = np.zeros((count, 4), np.int64)
    boxes[:, :2] = np.iinfo(np.int64).max
    for side, (pick, values) in enumerate(
        ((np.minimum, rows), (np.minimum, starts), (np.maximum, rows + 1), (np.maximum, stops))
    ):
        pick.at(boxes[:, side], labels, values)
    return areas, boxes
