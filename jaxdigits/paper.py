"""What is not ink in a picture: the paper, its light and shadow, its lines, the table that it lies on.

Grey levels are uint8 [height, width]. `ink` asks here for what to take off, and finds the digit in what
is left.
"""

from collections.abc import Callable

import numpy as np

from jaxdigits.morphology import (
    components,
    dilated,
    eroded,
    extent,
    histogram,
    opened,
    quantiles,
    smoothed,
)

__all__ = [
    "CONTRAST",
    "SMALLEST",
    "border_share",
    "darkness",
    "extended",
    "otsu",
    "polarity",
    "quiet",
    "sheet",
    "without_lines",
]

SMALLEST = 64  # pixels: in smaller pictures a stroke may be no larger than a speck, or than a line
CONTRAST = 10  # grey levels between paper and ink; below it, only JPEG's own noise is seen

_LEVELS = np.arange(256.0)
_UNEVEN = 0.3  # of the contrast of ink: paper that varies by more is in uneven light
_PAPER = 0.2  # of the picture: a light area on a dark ground, at least so large, is paper on a table
_SHADE = 0.55  # of the paper's level: no shadow is darker, as a table may be
_LINE = 0.8  # of the picture's side: what runs straight for so long is a line of the paper


def polarity(grey: np.ndarray, counts: np.ndarray) -> bool | None:
    """Whether the ink is darker than the paper: True, False or, in uneven light, not plain to see.

    In even light most of the border is paper, and only ink differs from it, to one side. A small picture
    is taken to be in even light, and cut out so tightly that its border is ink as well: there, paper is
    what covers more of border, corners and whole, for few digits reach into a corner.

    Args:
      grey: grey levels, uint8 [h, w].
      counts: their histogram.
    """
    if max(grey.shape) < SMALLEST:
        light = grey > otsu(counts)[0]
        corners = int(light[0, 0]) + int(light[0, -1]) + int(light[-1, 0]) + int(light[-1, -1])
        return border_share(light) + corners / 4 + np.count_nonzero(light) / light.size > 1.5
    low, paper, high = quantiles(np.bincount(ring(grey), minlength=256), 0.25, 0.5, 0.75)
    darkest, lightest = quantiles(counts, 0.001, 0.999)
    down, up = paper - darkest, lightest - paper
    most = max(down, up)
    if high - low > _UNEVEN * most or min(down, up) > _UNEVEN * most:
        return None
    return down > up


def otsu(counts: np.ndarray) -> tuple[int, float]:
    """The level of a histogram that parts dark from light best, and the share of the variance it explains.

    Otsu, "A threshold selection method from gray-level histograms", 1979.
    """
    below, mass = counts.cumsum(), (counts * _LEVELS).cumsum()
    total, mean = float(below[-1]), float(mass[-1] / below[-1])
    parts = np.maximum(below * (total - below), 1)  # where one part is empty, the numerator is 0 as well
    between = (mean * below - mass) ** 2 / parts
    variance = float(counts @ (_LEVELS - mean) ** 2)
    best = int(between.argmax())
    return best, float(between[best]) * total / variance if variance else 0.0


def border_share(mask: np.ndarray) -> float:
    """The share of the outermost pixels that are in a mask, bool [h, w]."""
    edge = ring(mask)
    return np.count_nonzero(edge) / len(edge)


def ring(values: np.ndarray) -> np.ndarray:
    """The outermost of values, [h, w], as one row."""
    return np.concatenate([values[0], values[-1], values[1:-1, 0], values[1:-1, -1]])


def sheet(grey: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, tuple[slice, slice]] | None:
    """A sheet of paper that lies on a darker table, with something written on it.

    A sheet is a rectangle, turned at will, with small dark marks in it. A digit in light ink is not: the
    disc within a zero fills 79% of its rectangle, and its hole is no small mark.

    Args:
      grey: grey levels, uint8 [h, w].
      counts: their histogram.

    Returns:
      The inner pixels of the sheet, bool [h, w], and its rows and columns; None if there is none.
    """
    if min(grey.shape) < SMALLEST:
        return None
    threshold, explained = otsu(counts)
    if explained < 0.5:
        return None
    below = counts.copy()
    below[threshold + 1 :] = 0
    table = otsu(below)[0]  # parts what is dark from what is darker
    # Between the two may lie paper in the shadow, from which either threshold cuts, or to which it adds.
    for level in (threshold, (threshold + table) // 2, (3 * threshold + table) // 4):
        light = grey > level
        if border_share(light) > 0.95:
            return None
        if found := _sheet_in(grey, light):
            return found
    return None


def _sheet_in(grey: np.ndarray, light: np.ndarray) -> tuple[np.ndarray, tuple[slice, slice]] | None:
    """The sheet that the largest of the light shapes is, bool [h, w], if it is one; as `sheet` returns it."""
    shapes = components(light)
    largest = shapes.areas == shapes.areas.max(initial=0)
    if not shapes.areas.max(initial=0) >= _PAPER * light.size:
        return None
    mask = shapes.mask(largest)
    whole = _filled(mask)
    marks = 1 - light[whole].mean()
    if not 0.001 < marks < 0.2 or whole.sum() < 0.88 * _least_rectangle(whole):
        return None
    table, paper = (np.bincount(grey[part], minlength=256) for part in (~whole, mask))
    if quantiles(table, 0.5)[0] > _SHADE * quantiles(paper, 0.5)[0]:
        return None
    margin = max(3, round(0.03 * max(light.shape))) | 1
    inner = eroded(whole.view(np.uint8), 2 * margin + 1).view(bool)
    found = extent(inner)
    return None if found is None else (inner, found)


def extended(grey: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Grey levels with each pixel that is not `inside`, bool [h, w], like the nearest in its row that is."""
    places = np.where(inside, np.arange(grey.shape[1]), -1)
    before = np.maximum.accumulate(places, axis=1)
    first = inside.argmax(1)[:, None]
    return np.take_along_axis(grey, np.where(before < 0, first, before), axis=1)


def _filled(mask: np.ndarray) -> np.ndarray:
    """A mask with everything that lies between two of its pixels both in a row and in a column."""
    filled = np.ones_like(mask)
    for axis, side in enumerate(mask.shape):
        places = np.arange(side).reshape((-1, 1) if axis == 0 else (1, -1))
        first = mask.argmax(axis, keepdims=True)
        last = np.where(mask.any(axis, keepdims=True), side - 1, -1) - np.flip(mask, axis).argmax(
            axis, keepdims=True
        )
        filled &= (places >= first) & (places <= last)
    return filled


def _least_rectangle(mask: np.ndarray) -> float:
    """The area of the smallest of the rectangles around a mask, turned in steps of 3 degrees."""
    rows = np.flatnonzero(mask.any(1))
    first, last = mask[rows].argmax(1), mask.shape[1] - 1 - mask[rows, ::-1].argmax(1)
    points = np.concatenate([np.stack([rows, first]), np.stack([rows, last])], 1)
    angles = np.radians(np.arange(0, 90, 3))
    turned = np.stack([np.cos(angles), np.sin(angles)], 1) @ points
    across = np.stack([-np.sin(angles), np.cos(angles)], 1) @ points
    return float(((np.ptp(turned, 1) + 1) * (np.ptp(across, 1) + 1)).min())


def quiet(grey: np.ndarray) -> np.ndarray:
    """Grey levels without single pixels that stick out, and smoothed if there is much noise."""
    if min(grey.shape) < 3:
        return grey
    width = grey.shape[1]
    line = grey.reshape(-1)  # what is taken from another row here lies on the border, and is not used
    high, low = (_around(line, width, pick) for pick in (np.maximum, np.minimum))
    inner = line[width + 1 : -width - 1]
    quiet = grey.copy()
    middle = np.zeros_like(grey).reshape(-1)
    np.minimum(np.maximum(inner, low), high, out=middle[width + 1 : -width - 1])
    quiet[1:-1, 1:-1] = middle.reshape(grey.shape)[1:-1, 1:-1]
    if min(grey.shape) < SMALLEST:
        return quiet
    for _ in range(2):
        change = changes(quiet[::2])
        if change.sum(dtype=np.uint32) < 6 * change.size:
            break
        quiet = smoothed(quiet)
    return quiet


def changes(grey: np.ndarray) -> np.ndarray:
    """By how much neighbours within a row differ, uint8 [h, w - 1]."""
    left, right = grey[:, :-1], grey[:, 1:]
    return np.maximum(left, right) - np.minimum(left, right)


def _around(line: np.ndarray, width: int, pick: Callable[..., np.ndarray]) -> np.ndarray:
    """The extreme of the eight neighbours of each pixel, from the second of the second row on."""
    sides = pick(line[:-2], line[2:])  # left and right
    best = pick(pick(sides[: -2 * width], sides[2 * width :]), sides[width:-width])
    return pick(best, pick(line[1 : -2 * width - 1], line[2 * width + 1 : -1]))


def darkness(grey: np.ndarray, window: int) -> np.ndarray:
    """How much darker each pixel is than the paper there, uint8 [h, w] in grey levels.

    The paper is what is left when all dark shapes narrower than the window are filled in (a black top-hat
    transform); its noise lifts that a little, by what most of the paper shows.
    """
    paper = dilated(grey, window)
    if paper.min() < paper.max():  # where it is all alike, nothing is left to do
        paper = eroded(paper, window)
    strength = paper - grey
    offset = quantiles(histogram(strength[::4]), 0.3)[0]
    return np.maximum(strength, np.uint8(offset)) - np.uint8(offset) if offset else strength


def without_lines(strength: np.ndarray, level: float) -> np.ndarray:
    """Strength without the ruled or grid lines of the paper.

    A line is what is left where the picture is eroded along nearly all its width, or height, with some
    room for a slight slant. Thin ones are taken off where there are several, or where they are fainter
    than the ink, whose level is given: a digit that fills the picture may have a stroke as long.
    """
    height, width = strength.shape
    if min(height, width) < SMALLEST:
        return strength
    found = []
    some = (strength > CONTRAST // 2).view(np.uint8)
    for axis in (0, 1):
        room = (5, 1) if axis == 0 else (1, 5)
        along = (1, round(_LINE * width)) if axis == 0 else (round(_LINE * height), 1)
        if np.count_nonzero(some.max(axis)) < max(along):
            continue
        if np.count_nonzero(dilated(some, room), axis=1 - axis).max() < max(along):
            continue
        lines = opened(dilated(strength, room), along)
        profile = lines.max(1 - axis)
        marked = profile > CONTRAST // 2
        number = np.count_nonzero(np.diff(marked, prepend=False) & marked)
        thin = np.count_nonzero(marked) <= number * (max(room) + 0.02 * max(height, width))
        if number and thin and (number >= 3 or profile.max() < 0.7 * level):
            found.append(lines)
    for lines in found:
        strength = np.maximum(strength, lines) - lines
    return strength
