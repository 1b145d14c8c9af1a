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
    "extent",
    "framed",
    "histogram",
    "opened",
    "quantiles",
    "resized",
    "smoothed",
    "stroke_width",
    "thickened",
]

Window = int | tuple[int, int]

_SMALL = 12_000  # pixels: fewer NumPy has counted before Pillow has taken them over
_LARGE = 32_000  # pixels: fewer Pillow counts no slower one by one


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
    """Extremes over a rectangle: each axis on its own, by windows that double in length.

    Rows lie one behind the other in memory, and are passed over as one: what is taken from the next row
    is not used, for the margin that each row has is as long as the window reaches.
    """
    sizes = (window, window) if isinstance(window, int) else window
    for axis in (1, 0):
        size = min(sizes[axis], 2 * values.shape[axis]) | 1
        if size == 1:
            continue
        height, width = values.shape
        wide = framed(values, size // 2, axis)
        unit = width if axis == 0 else 1
        line, span = wide.reshape(-1), 1
        while span < size:
            step = min(span, size - span)
            line = pick(line[: -step * unit], line[step * unit :])
            span += step
        strides = (wide.strides[0], wide.strides[1])
        values = np.ndarray((height, width), values.dtype, line, strides=strides)  # without the margin
    return np.ascontiguousarray(values)


def framed(values: np.ndarray, margin: int, axis: int) -> np.ndarray:
    """`values`, [h, w], with what is on the edge repeated so often before and after, along one axis."""
    height, width = values.shape
    if axis == 0:
        wide = np.empty((height + 2 * margin, width), values.dtype)
        wide[margin : margin + height] = values
        wide[:margin], wide[margin + height :] = values[0], values[-1]
    else:
        wide = np.empty((height, width + 2 * margin), values.dtype)
        wide[:, margin : margin + width] = values
        wide[:, :margin], wide[:, margin + width :] = values[:, :1], values[:, -1:]
    return wide


def thickened(ink: np.ndarray, radius: float) -> np.ndarray:
    """Ink grown by so many pixels on every side, soft edges kept; shrunk, where `radius` is negative.

    Squares and crosses in turn make an octagon, which is as good as a disc over a few pixels.

    Args:
      ink: uint8 [h, w], with a margin that growing does not leave.
      radius: pixels.
    """
    whole, part = divmod(abs(radius), 1)
    pick = np.maximum if radius > 0 else np.minimum
    line, width = ink.ravel(), ink.shape[1]  # the margin keeps the end of a row from the start of the next
    for step in range(int(whole)):
        line = _step(line, width, pick, square=step % 2 == 1)
    if part:
        further = _step(line, width, pick, square=int(whole) % 2 == 1)
        line = np.rint(line + np.float32(part) * (further.astype(np.float32) - line)).astype(np.uint8)
    return line.reshape(ink.shape)


def _step(line: np.ndarray, width: int, pick: Callable[..., np.ndarray], square: bool) -> np.ndarray:
    """The extreme of each pixel and its neighbours: all eight, or the four at its sides; [h * width]."""
    across = _with_neighbours(line, line, 1, pick)
    return _with_neighbours(across, across if square else line, width, pick)


def _with_neighbours(
    values: np.ndarray, others: np.ndarray, apart: int, pick: Callable[..., np.ndarray]
) -> np.ndarray:
    """The extreme of each value and of the two others that are so far from it in memory."""
    best = values.copy()
    pick(best[apart:], others[:-apart], out=best[apart:])
    pick(best[:-apart], others[apart:], out=best[:-apart])
    return best


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


def histogram(values: np.ndarray) -> np.ndarray:
    """How often each level from 0 to 255 occurs in uint8 values, [h, w]: int [256]."""
    if values.size < _SMALL:
        return np.bincount(values.reshape(-1), minlength=256)
    from PIL import Image

    if values.size < _LARGE or values.size % 4:
        return np.array(Image.fromarray(values).histogram(), np.int64)
    # Paper is all alike, and a processor adds one to the same count many times slowly: four take turns.
    four = Image.fromarray(values.reshape(1, -1, 4)).histogram()
    return np.array(four, np.int64).reshape(4, 256).sum(0)


def quantiles(counts: np.ndarray, *shares: float) -> list[int]:
    """The grey levels below which lie these shares, from 0 to 1, of what a histogram, int [256], counts."""
    below = counts.cumsum()
    return below.searchsorted([share * below[-1] for share in shares]).tolist()


def smoothed(values: np.ndarray) -> np.ndarray:
    """Values, uint8 [h, w], averaged by the weights 1 2 1 along both axes."""
    tall = framed(values, 1, 0).astype(np.uint16)
    tall = framed(tall[:-2] + 2 * tall[1:-1] + tall[2:], 1, 1).reshape(-1)
    whole = np.zeros_like(tall)
    np.add(tall[:-2] + 8, tall[2:], out=whole[1:-1])
    whole[1:-1] += 2 * tall[1:-1]
    whole >>= 4
    return whole.reshape(len(values), -1)[:, 1:-1].astype(np.uint8)


def extent(marked: np.ndarray) -> tuple[slice, slice] | None:
    """The rows and columns from the first with anything in it to the last, of values [h, w]; or None."""
    rows, columns = marked.max(1).nonzero()[0], marked.max(0).nonzero()[0]
    if not len(rows):
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def stroke_width(ink: np.ndarray) -> float:
    """The mean width of strokes in pixels, from the area and the outline of ink, uint8 [h, w].

    A stroke of width w and length l has the area A = w l and the outline P = 2 (w + l), whence
    w = (P/2 - sqrt(P^2/4 - 4 A)) / 2. Soft edges count by their share: the outline is the sum of the
    slopes' lengths.
    """
    found = extent(ink)
    if found is None:
        return 0.0
    ink = ink[found]
    share = np.zeros((ink.shape[0] + 2, ink.shape[1] + 2), np.float32)
    np.multiply(ink, np.float32(1 / 255), out=share[1:-1, 1:-1])
    falling, rising = share[1:, 1:] - share[:-1, :-1], share[1:, :-1] - share[:-1, 1:]
    # The slope in the middle of four pixels is the root of half the sum of their diagonals' squares.
    falling *= falling
    rising *= rising
    falling += rising
    half = float(np.sqrt(falling, out=falling).sum()) / math.sqrt(8)
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
        runs = chosen[self.labels]
        places = self.rows[runs] * width
        ends = np.empty(2 * len(places) + 1, np.int64)  # of paper and of ink in turn, row behind row
        ends[:-1:2], ends[1::2], ends[-1] = (
            places + self.starts[runs],
            places + self.stops[runs],
            height * width,
        )
        lengths = np.diff(ends, prepend=0)
        return np.repeat(np.arange(len(ends)) % 2 == 1, lengths).reshape(height, width)


def components(mask: np.ndarray) -> Components:
    """The connected shapes of a mask, bool [h, w].

    Runs of neighbouring rows that touch are joined until nothing changes, each time with all pointers
    followed to their ends (Shiloach and Vishkin, "An O(log n) parallel connectivity algorithm", 1982).
    """
    height, width = mask.shape
    stride = width + 2  # a run at the end of a row and one at the start of the next do not touch
    padded = np.zeros((height, stride), bool)
    padded[:, 1:-1] = mask
    line = padded.reshape(-1)
    change = (line[1:] != line[:-1]).nonzero()[0] + 1
    starts, stops = change[::2], change[1::2]
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
    labels = (np.cumsum(roots == np.arange(len(roots))) - 1)[roots]  # a shape's root is its first run
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
