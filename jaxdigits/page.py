"""A page of writing to its ink: how strongly each pixel is written on, whatever the light and the paper.

The like of `image` does for one digit, for a page of many: paper and shadow are found at a low resolution,
since pages are large, and all strokes are kept. Which of them are digits is left to `reading`.
"""

import numpy as np
from jaxtyping import UInt8

from jaxdigits.grey import grey_of
from jaxdigits.ink import Invert, ink_level, levels
from jaxdigits.morphology import closed, histogram, resized
from jaxdigits.paper import CONTRAST, extended, polarity, quiet, sheet, without_lines

__all__ = ["ink_of"]

_WORKING_SIDE = 2048  # pixels: what is larger is averaged down
_PAPER_SIDE = 192  # pixels: light and shadow need no more
_WINDOW = 0.35  # of the longer side: wider than any stroke, narrower than the shadows to be removed
_NOISE = 5  # standard deviations: ink is told from the paper's noise by as much


def ink_of(pixels: np.ndarray, invert: Invert = "auto") -> UInt8[np.ndarray, "h w"]:
    """The ink of a page: 0 on paper, 255 where it is solid, a stroke's edge in the middle.

    Args:
      pixels: from 0 to 255: uint8 or float32 [h, w] grey, uint8 [h, w, 3] RGB or [h, w, 4] RGBA.
      invert: whether the ink is darker than the paper, and thus to be inverted, or found out by itself.

    Returns:
      The ink, of a picture whose longer side is over `_WORKING_SIDE` at that size; all 0 if there is none.
    """
    grey = grey_of(pixels, _WORKING_SIDE)
    counts = histogram(grey)
    if invert is not False and (on_table := sheet(grey, counts)) is not None:
        inside, box = on_table
        ink = np.zeros_like(grey)
        ink[box] = _ink_on(extended(grey[box], inside[box]))
        return ink
    dark = polarity(grey, counts) if invert == "auto" else invert
    dark = _stands_out_darker(grey) if dark is None else dark
    return _ink_on(grey if dark else ~grey)


def _ink_on(grey: np.ndarray) -> np.ndarray:
    """The dark ink in grey levels, uint8 [h, w], as in `ink_of`."""
    strength = _darkness(quiet(grey))
    level, noise = ink_level(strength)
    if level >= max(CONTRAST, _NOISE * noise):
        strength = without_lines(strength, level)
        level, noise = ink_level(strength)
    if level < max(CONTRAST, _NOISE * noise):
        return np.zeros_like(grey)
    return levels(strength, level)


def _darkness(grey: np.ndarray) -> np.ndarray:
    """How much darker each pixel is than the paper there, uint8 [h, w] in grey levels.

    As `paper.darkness`, but the paper is found at a low resolution, where that costs little and most of
    the noise is averaged away.
    """
    small = _small(grey).astype(np.float32)
    window = max(5, round(_WINDOW * max(small.shape)))
    slope = _plane(closed(small, window))  # at the border, filling in would flatten a slope of the light
    paper = resized(closed(small - slope, window) + slope, *grey.shape)
    strength = np.maximum(paper - grey, 0)
    offset = np.percentile(strength[::2, ::2], 30)
    return np.clip(strength - offset, 0, 255).astype(np.uint8)


def _plane(values: np.ndarray) -> np.ndarray:
    """The plane that comes nearest to values, float32 [h, w], by least squares."""
    down, across = (np.linspace(-1, 1, side, dtype=np.float32) for side in values.shape)
    rise, run = values.mean(1) @ down, values.mean(0) @ across  # the axes are orthogonal
    return (
        values.mean()
        + (rise / max(down @ down, 1)) * down[:, None]
        + (run / max(across @ across, 1)) * across
    )


def _small(grey: np.ndarray) -> np.ndarray:
    scale = min(1.0, _PAPER_SIDE / max(grey.shape))
    return resized(grey, *(max(1, round(side * scale)) for side in grey.shape))


def _stands_out_darker(grey: np.ndarray) -> bool:
    """Whether what stands out from its surroundings is darker, on the whole: by its third moment."""
    small = _small(grey)
    around = resized(resized(small, *(max(1, side // 24) for side in small.shape)), *small.shape)
    return float(((small.astype(np.float64) - around) ** 3).sum()) < 0
