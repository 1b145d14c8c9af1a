"""Finds the digit that is written in a picture: which pixels are its ink, and how strong the ink is.

Between `paper`, which says what is not ink, and `image`, which gives the digit MNIST's form. A picture
that may be read in two ways, as dark ink or as light ink, is read in both and judged by the outcome.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias

import numpy as np

from jaxdigits.morphology import (
    Components,
    components,
    dilated,
    eroded,
    extent,
    histogram,
    quantiles,
    resized,
)
from jaxdigits.paper import (
    CONTRAST,
    SMALLEST,
    border_share,
    changes,
    darkness,
    extended,
    polarity,
    quiet,
    ring,
    sheet,
    without_lines,
)

__all__ = ["THRESHOLD", "Ink", "Invert", "levels", "written"]

Invert: TypeAlias = 'Literal["auto"] | bool'

THRESHOLD = 0.42  # of solid ink: where a stroke ends

_LEVELS = np.arange(256)
_SQUARES = _LEVELS * _LEVELS
_NOISE = 5  # standard deviations: ink is told from the paper's noise by as much
_WINDOW = 0.4  # of the longer side: wider than any stroke, narrower than the shadows to be removed
_NARROW = 0.12  # of the longer side: where light is uneven, one that is wider than thin strokes only
_GAP = 0.015  # of the longer side: a stroke may be broken by less
_FLAT = 0.12  # of solid ink: what rises more slowly than that, within three pixels, is shade
_NEAR = 0.2  # of the digit's longer side: strokes no further away belong to it


@dataclasses.dataclass(frozen=True, eq=False)
class Ink:
    """What was written, as one reading of the picture has it.

    Attributes:
      strength: how far each pixel lies from the paper, uint8 [h, w] in grey levels.
      level: that of solid ink.
      mask: the pixels of the digit, bool [h, w].
      box: top, left, bottom and right of the digit in pixels.
      dark: whether it is darker than the paper.
      origin: the row and column of the picture where all this begins: at the sheet of paper, if there is one.
      coarse: whether the picture was enlarged, so that narrow gaps in the ink are only fainter ink.
      border: how much of the picture's border is ink, from 0 to 1.
      outline: how steep the edges of the digit are, as a share of `level`: what only the window of the
        background made has none.
    """

    strength: np.ndarray
    level: float
    mask: np.ndarray
    box: tuple[int, int, int, int]
    dark: bool
    origin: tuple[int, int]
    coarse: bool
    border: float
    outline: float

    @property
    def side(self) -> int:
        """The longer side of the digit, in pixels."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])


def written(grey: np.ndarray, invert: Invert) -> Ink | None:
    """The digit in grey levels, uint8 [h, w]; None if there is none."""
    counts = histogram(grey)
    if invert is True or invert == "auto":
        paper = sheet(grey, counts)
        if paper is not None:
            inside, box = paper
            part, origin = extended(grey[box], inside[box]), (box[0].start, box[1].start)
            return _likeliest(_readings(part, True, (_WINDOW, _NARROW), origin))
    dark = polarity(grey, counts)
    if dark is None:
        darks, windows = (True, False) if invert == "auto" else (invert,), (_WINDOW, _NARROW)
    else:
        darks, windows = (dark if invert == "auto" else invert,), (_WINDOW,)
    return _likeliest(reading for dark in darks for reading in _readings(grey, dark, windows))


def _likeliest(readings: Iterable[Ink | None]) -> Ink | None:
    """Of several readings of a picture, a large digit with clear edges that keeps off the border."""
    some = [reading for reading in readings if reading is not None]
    return max(some, key=lambda one: one.outline**3 * one.side**0.5 * (1 - one.border), default=None)


def _readings(
    grey: np.ndarray, dark: bool, windows: tuple[float, ...], origin: tuple[int, int] = (0, 0)
) -> Iterator[Ink | None]:
    """The digit in grey levels, uint8 [h, w], if its ink is `dark`, or else light: for each window."""
    coarse = max(grey.shape) < SMALLEST
    grey = quiet(_roomy(grey if dark else ~grey))
    for window in windows:
        found = _read(grey, window, coarse)
        yield None if found is None else dataclasses.replace(found, dark=dark, origin=origin)


def _read(grey: np.ndarray, window: float, coarse: bool) -> Ink | None:
    """The digit in dark ink in grey levels, uint8 [h, w], by one window for the paper."""
    strength = darkness(grey, round(window * max(grey.shape)))
    level, noise = ink_level(strength)
    if level < max(CONTRAST, _NOISE * noise):
        return None
    ruled, strength = strength, without_lines(strength, level)
    if strength is not ruled:
        level, noise = ink_level(strength)
        if level < max(CONTRAST, _NOISE * noise):
            return None
    mask = strength > int(max(THRESHOLD * level, 3 * noise))  # a whole number: the levels stay uint8
    border = border_share(mask)
    gap = 1 if coarse else round(_GAP * max(grey.shape)) | 1
    shapes = components(dilated(mask.view(np.uint8), gap).view(bool))
    chosen = _digit(shapes)
    if not chosen.any():
        return None
    if not chosen.all():
        mask &= shapes.mask(chosen)
    rows, columns = extent(mask) or (slice(0), slice(0))
    box = (rows.start, columns.start, rows.stop, columns.stop)
    level = contraharmonic(histogram(strength[rows, columns] * mask[rows, columns]))
    outline = _outline(grey, mask, box) / level
    if outline < _FLAT:
        return None
    return Ink(strength, level, mask, box, True, (0, 0), coarse, border, min(1.0, outline))


def _outline(grey: np.ndarray, mask: np.ndarray, box: tuple[int, int, int, int]) -> float:
    """How much the grey levels change, on average, where a mask ends."""
    around = slice(max(0, box[0] - 2), box[2] + 2), slice(max(0, box[1] - 2), box[3] + 2)
    grey, mask = grey[around], mask[around]
    edge = mask > eroded(mask, 3)
    change = (dilated(grey, 3) - eroded(grey, 3))[edge]
    return float(change.sum(dtype=np.uint32)) / max(1, len(change))


def _roomy(grey: np.ndarray) -> np.ndarray:
    """A small picture, dark on light, enlarged with a margin of paper, so that strokes end in it."""
    longest = max(grey.shape)
    if longest >= SMALLEST:
        return grey
    paper = quantiles(np.bincount(ring(grey), minlength=256), 0.75)[0]
    factor = -(-3 * SMALLEST // (2 * longest + 4))
    framed = np.full((grey.shape[0] + 2, grey.shape[1] + 2), paper, np.uint8)
    framed[1:-1, 1:-1] = grey
    return resized(framed, *(factor * size for size in framed.shape))


def ink_level(strength: np.ndarray) -> tuple[float, float]:
    """The strength of solid ink, and the standard deviation of the paper's noise, in grey levels."""
    counts = histogram(strength)
    noise = float(quantiles(counts, 0.55)[0])  # as most of the paper shows
    if noise > 1:  # but no more than neighbours differ: a picture may be full of ink
        noise = min(noise, 1.0 + 3 * quantiles(histogram(changes(strength[::2])), 0.5)[0])
    floor = max(CONTRAST / 2, 3 * noise)
    counts[: int(floor) + 1] = 0
    return contraharmonic(counts), noise


def contraharmonic(counts: np.ndarray) -> float:
    """The mean of grey levels, each weighed by its square: strong ink counts, faint edges hardly.

    Args:
      counts: how often each occurs, int [256].

    Returns:
      The mean; 0 if there are none, or all are 0.
    """
    squares = counts * _SQUARES
    above = int(squares.sum())
    return int(squares @ _LEVELS) / above if above else 0.0


def levels(strength: np.ndarray, level: float) -> np.ndarray:
    """Strength of ink as uint8 [h, w]: 0 is paper, 255 solid ink, the edge of a stroke in the middle."""
    table = np.clip((np.arange(256) / level - THRESHOLD) * 3 + 0.5, 0, 1) * 255
    return np.rint(table).astype(np.uint8)[strength]


def _digit(shapes: Components) -> np.ndarray:
    """Which shapes are strokes of the digit, bool [n].

    The main shape, and whatever lies near it and is no speck. Main is what is large; what touches the
    border less so, for it may be a shadow, a finger or another line of writing; least of all a frame or a
    slab. A digit that fills the picture touches the border itself.
    """
    boxes, (height, width) = shapes.boxes, shapes.shape
    high, wide = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    sides = np.maximum(high, wide)
    sound = sides >= max(3, 0.025 * max(height, width))
    if len(sound) == 1 or not sound.any():
        return sound
    borders = (boxes[:, 0] == 0, boxes[:, 1] == 0, boxes[:, 2] == height, boxes[:, 3] == width)
    touched = np.sum(borders, axis=0)
    slab = (touched > 0) & (shapes.areas > 0.7 * high * wide)
    weight = np.select([touched == 0, slab, touched >= 3], [1, 0.02, 0.1], 0.3)
    main = int((np.where(sound, shapes.areas, 0) * sides * weight).argmax())
    fills = max(high[main] / height, wide[main] / width) > 0.85
    allowed = sound & ((touched == 0) | (~slab if touched[main] or fills else False))
    return _joined(boxes, main, allowed & (sides >= 0.06 * sides[main]))


def _joined(boxes: np.ndarray, main: int, candidates: np.ndarray) -> np.ndarray:
    """The main shape and all candidates that are near it, or near one that is; bool [n]."""
    chosen = np.zeros(len(boxes), bool)
    chosen[main] = True
    while True:
        whole = np.concatenate([boxes[chosen, :2].min(0), boxes[chosen, 2:].max(0)])
        reach = _NEAR * max(whole[2] - whole[0], whole[3] - whole[1])
        apart = np.maximum(boxes[:, :2] - whole[2:], whole[:2] - boxes[:, 2:]).max(1)
        grown = chosen | (candidates & (apart <= reach))
        if (grown == chosen).all():
            return chosen
        chosen = grown
