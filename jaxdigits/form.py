"""MNIST's form of a digit whose ink has been found: how wide its strokes are, its size, its place.

The last steps from ink to image, which `image` and `reading` share.
"""

import numpy as np

from jaxdigits.morphology import extent, resized, stroke_width, thickened

__all__ = ["BOX", "CANONICAL", "MIDDLE", "SIDE", "centred", "fitted", "usual_strokes", "with_margin"]

SIDE = 28  # pixels: MNIST's frame
BOX = 20  # pixels: the box that a digit is fitted into (LeCun et al. 1998)
CANONICAL = 80  # pixels: longest side of a digit while its strokes are worked on, four times the box
MIDDLE = 14  # pixels: in all 70,000 MNIST images the centre of mass rounds to (14, 14)

_PLACES = np.arange(SIDE)
_MARGIN = CANONICAL // 4  # pixels: strokes do not grow beyond it
_EDGE = 0.3  # of solid ink: where a stroke's soft edge begins
# Mean widths of strokes in the 20-pixel box: the 15th and the 85th percentile of MNIST's training
# images are left as they are, thinner and thicker strokes brought there.
_STROKES = (2.4, 3.3)


def with_margin(ink: np.ndarray) -> np.ndarray:
    """Ink, uint8 [h, w], with as much paper on every side as `usual_strokes` needs."""
    whole = np.zeros((ink.shape[0] + 2 * _MARGIN, ink.shape[1] + 2 * _MARGIN), np.uint8)
    whole[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] = ink
    return whole


def usual_strokes(ink: np.ndarray, thinning: float) -> np.ndarray:
    """Ink with strokes of a width that MNIST's have: the same array where they have it already.

    Args:
      ink: uint8 [h, w], about `CANONICAL` high or wide, with a margin.
      thinning: the most that a stroke loses on each side, as a share of its width.
    """
    present = stroke_width(ink)
    thin, thick = (width * CANONICAL / BOX for width in _STROKES)
    wanted = min(max(present, thin), thick)
    # Growing by r on each side makes the digit larger by 2 r, and fitting takes that back.
    radius = (wanted - present) / 2 / (1 - wanted / CANONICAL)
    if abs(radius) <= 0.25:
        return ink
    return thickened(ink, min(max(radius, -thinning * present), CANONICAL // 8))


def fitted(ink: np.ndarray) -> np.ndarray:
    """Cuts the digit out and scales it into the 20x20 box, aspect kept, by averaging areas; uint8."""
    found = extent(ink > int(_EDGE * 255))
    if found is None:
        return np.zeros((1, 1), np.uint8)
    digit = ink[found]
    return resized(digit, *(max(1, round(size * BOX / max(digit.shape))) for size in digit.shape))


def centred(digit: np.ndarray) -> np.ndarray:
    """Places a digit, uint8 [h, w] within 20x20, so that its centre of mass falls on (14, 14)."""
    image = np.zeros((SIDE, SIDE), np.uint8)
    offsets = []
    for axis, side in enumerate(digit.shape):
        mass = digit.sum(1 - axis)
        total = float(mass.sum())
        middle = float(mass @ _PLACES[:side]) / total if total else side / 2
        offsets.append(min(max(round(MIDDLE - middle), 0), SIDE - side))
    top, left = offsets
    image[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return image
