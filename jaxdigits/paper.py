"""What is not ink in a picture: the paper, its light and shadow, its lines, the table that it lies on.

Grey levels are uint8 [height, width]. `ink` asks here for what to take off, and finds the digit in what
is left.
"""

import numpy as np

from jaxdigits.morphology import closed, components, dilated, eroded, opened, quantiles, smoothed

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

_UNEVEN = 0.3  # of the contrast of ink: paper that varies by more is in uneven light
_PAPER = 0.2  # of the picture: a light area on a dark ground, at least so large, is paper on a table
_SHADE = 0.55  # of the paper's level: no shadow is darker, as a table may be
_LINE = 0.8  # of the picture's side: what runs straight for so long is a line of the paper


def polarity(grey: np.ndarray) -> bool | None:
    """Whether the ink is darker than the paper: True, False or, in uneven light, not plain to see.

    In even light most of the border is paper, and only ink differs from it, to one side. A small picture
    is taken to be in even light, and cut out so tightly that its border is ink as well: there, paper is
    what covers more of border, corners and whole, for few digits reach into a corner.
    """
    if max(grey.shape) < SMALLEST:
        light = grey > otsu(grey)[0]
        corners = light[[0, 0, -1, -1], [0, -1, 0, -1]]
        return bool(border_share(light) + corners.mean() + light.mean() > 1.5)
    ring = np.concatenate([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]])
    low, paper, high = quantiles(ring, 0.25, 0.5, 0.75)
    darkest, lightest = quantiles(grey, 0.001, 0.999)
    down, up = paper - darkest, lightest - paper
    most = max(down, up)
    if high - low > _UNEVEN * most or min(down, up) > _UNEVEN * most:
        return None
    return bool(down > up)


def otsu(grey: np.ndarray) -> tuple[int, float]:
    """The level that parts dark from light best, and the share of the variance that this explains.

    Otsu, "A threshold selection method from gray-level histograms", 1979.
    """
    counts = np.bincount(grey.ravel(), minlength=256).astype(np.float64)
    values = np.arange(256)
    below, mass = np.cumsum(counts), np.cumsum(counts * values)
    total, mean = below[-1], mass[-1] / below[-1]
    parts = np.maximum(below * (total - below), 1)  # where one part is empty, the numerator is 0 as well
    between = np.square(mean * below - mass) / parts
    variance = (counts * np.square(values - mean)).sum()
    best = int(between.argmax())
    return best, float(between[best] * total / variance) if variance else 0.0


def border_share(mask: np.ndarray) -> float:
    """The share of the outermost pixels that are in a mask, bool [h, w]."""
    ring = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    return float(ring.mean())


def sheet(grey: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]] | None:
    """A sheet of paper that lies on a darker table, with something written on it.

    A sheet is a rectangle, turned at will, with small dark marks in it. A digit in light ink is not: the
    disc within a zero fills 79% of its rectangle, and its hole is no small mark.

    Args:
      grey: grey levels, uint8 [h, w].

    Returns:
      The inner pixels of the sheet, bool [h, w], and its box; None if there is none.
    """
    threshold, explained = otsu(grey)
    light = grey > threshold
    if min(light.shape) < SMALLEST or explained < 0.5 or border_share(light) > 0.95:
        return None
    shapes = components(light)
    largest = shapes.areas == shapes.areas.max(initial=0)
    if not shapes.areas.max(initial=0) >= _PAPER * light.size:
        return None
    mask = shapes.mask(largest)
    whole = _filled(mask)
    marks = 1 - light[whole].mean()
    if not 0.001 < marks < 0.2 or whole.sum() < 0.88 * _least_rectangle(whole):
        return None
    if quantiles(grey[~whole], 0.5)[0] > _SHADE * quantiles(grey[mask], 0.5)[0]:
        return None
    margin = max(3, round(0.03 * max(light.shape))) | 1
    inner = eroded(whole.view(np.uint8), 2 * margin + 1).view(bool)
    rows, columns = np.flatnonzero(inner.any(1)), np.flatnonzero(inner.any(0))
    if not len(rows):
        return None
    return inner, (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)


def extended(grey: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Grey levels with each pixel that is not `inside`, bool [h, w], like the nearest in its row that is."""
    places = np.where(inside, np.arange(grey.shape[1]), -1)
    before = np.maximum.accumulate(places, axis=1)
    first = inside.argmax(1)[:, None]
    return np.take_along_axis(grey, np.where(before < 0, first, before), axis=1)


def _filled(mask: np.ndarray) -> np.ndarray:
    """A mask with everything that lies between two of its pixels both in a row and in a column."""
    across = np.logical_or.accumulate(mask, 1) & np.logical_or.accumulate(mask[:, ::-1], 1)[:, ::-1]
    down = np.logical_or.accumulate(mask, 0) & np.logical_or.accumulate(mask[::-1], 0)[::-1]
    return across & down


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
    inner = grey[1:-1, 1:-1]
    rows = np.maximum(grey[:, :-2], grey[:, 2:])
    high = np.maximum(np.maximum(rows[:-2], rows[2:]), rows[1:-1])
    high = np.maximum(high, np.maximum(grey[:-2, 1:-1], grey[2:, 1:-1]))
    rows = np.minimum(grey[:, :-2], grey[:, 2:])
    low = np.minimum(np.minimum(rows[:-2], rows[2:]), rows[1:-1])
    low = np.minimum(low, np.minimum(grey[:-2, 1:-1], grey[2:, 1:-1]))
    quiet = grey.copy()
    quiet[1:-1, 1:-1] = np.clip(inner, low, high)
    if min(grey.shape) < SMALLEST:
        return quiet
    for _ in range(2):
        rough = np.abs(np.diff(quiet[::2].astype(np.int16), axis=1)).mean()
        if rough < 6:
            break
        quiet = smoothed(quiet)
    return quiet


def darkness(grey: np.ndarray, window: int) -> np.ndarray:
    """How much darker each pixel is than the paper there, uint8 [h, w] in grey levels.

    The paper is what is left when all dark shapes narrower than the window are filled in (a black top-hat
    transform); its noise lifts that a little, by what most of the paper shows.
    """
    strength = closed(grey, window) - grey
    offset = quantiles(strength[::2, ::2], 0.3)[0]
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
    for axis in (0, 1):
        room = (5, 1) if axis == 0 else (1, 5)
        along = (1, round(_LINE * width)) if axis == 0 else (round(_LINE * height), 1)
        wide = dilated(strength, room)
        if np.count_nonzero(wide > CONTRAST / 2, axis=1 - axis).max() < max(along):
            continue
        lines = opened(wide, along)
        profile = lines.max(1 - axis)
        marked = profile > CONTRAST / 2
        number = np.count_nonzero(np.diff(marked, prepend=False) & marked)
        thin = np.count_nonzero(marked) <= number * (max(room) + 0.02 * max(height, width))
        if number and thin and (number >= 3 or profile.max() < 0.7 * level):
            found.append(lines)
    for lines in found:
        strength = np.maximum(strength, lines) - lines
    return strength
