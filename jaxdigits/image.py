"""Any picture to MNIST's convention: the one place where pictures become model input.

MNIST's digits are white on black, 28 by 28. Each was scaled, aspect kept and edges antialiased, until
its bounding box just fitted 20 by 20, then placed with its centre of mass in the middle of the frame
(LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", 1998).
`prepare` does the same to a photograph, a scan or a drawing, in small pure steps:

    on paper    transparency laid on white; large pictures averaged down
    grey        colour projected on the direction in which the ink differs most from the paper
    ink         polarity; paper, shadow and uneven light, specks, noise and ruled lines taken off
    digit       the strokes that belong together, cut out; frames and specks beside them dropped
    stroke      strokes of an even level, their width brought to what MNIST's have
    image       fitted into the 20-pixel box, centred by mass

What is in MNIST's form already passes unchanged, bit for bit. Left to others: where pictures come from
and how files are decoded (`sources`), the single steps (`grey`, `ink`, `form`), shapes in general
(`morphology`), changing images for training (`augment`), reading the digit (`recognizer`). One picture
holds one digit.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np

from jaxdigits.errors import DataError, UsageError
from jaxdigits.form import CANONICAL, MIDDLE, SIDE, centred, fitted, usual_strokes, with_margin
from jaxdigits.grey import colour_direction, on_paper, reduced, to_grey
from jaxdigits.ink import THRESHOLD, Ink, Invert, levels, written
from jaxdigits.morphology import dilated, resized, smoothed

__all__ = ["Invert", "Prepared", "Raw", "prepare", "stages"]

Raw: TypeAlias = 'Literal["if 28x28"] | bool'
Trace: TypeAlias = Callable[[str, Callable[[], np.ndarray]], object]  # a step's name, and what it gave


_WORKING_SIDE = 320  # pixels: what is larger is averaged down to find the digit, then looked at again
_FINE = 96  # pixels: a digit that came out smaller is cut out of the original again

_THINNING = 0.12  # of its width: the most that a stroke loses on each side, or it might break


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """A picture in MNIST's form.

    Attributes:
      image: uint8 [28, 28] from 0 to 255, white ink on black.
      blank: whether there is no ink in it; the image is then black.
    """

    image: np.ndarray
    blank: bool


def prepare(pixels: np.ndarray, *, invert: Invert = "auto", raw: Raw = False) -> Prepared:
    """Brings one picture into MNIST's form.

    Args:
      pixels: uint8 or float32 [h, w] grey, uint8 [h, w, 3] RGB or [h, w, 4] RGBA; all from 0 to 255.
      invert: whether ink is darker than paper and thus to be inverted, or found out by itself.
      raw: take the picture, which has to be 28x28, for model input as it is; or "if 28x28".

    Raises:
      DataError: `raw` is true, and the picture is not 28x28.
      UsageError: `invert` or `raw` is none of these.
    """
    return _prepared(pixels, invert, raw, lambda _name, _step: None)


def stages(pixels: np.ndarray, *, invert: Invert = "auto", raw: Raw = False) -> dict[str, np.ndarray]:
    """What `prepare` made of a picture step by step, uint8 arrays by the names of the steps.

    Steps that a picture did not need are missing; the first is the picture, the last the image.
    """
    steps: dict[str, np.ndarray] = {}
    _prepared(pixels, invert, raw, lambda name, step: steps.update({name: step()}))
    return steps


def _prepared(pixels: np.ndarray, invert: Invert, raw: Raw, trace: Trace) -> Prepared:
    if invert not in ("auto", True, False):
        raise UsageError(f"invert is {invert!r}; expected 'auto', True or False")
    small = pixels.shape[:2] == (SIDE, SIDE)
    if raw not in ("if 28x28", True, False):
        raise UsageError(f"raw is {raw!r}; expected True, False or 'if 28x28'")
    if raw is True and not small:
        raise DataError(f"{pixels.shape[1]}x{pixels.shape[0]} pixels; a raw image has 28x28")
    if small:
        grey = _plain(pixels)
        if raw or (invert is not True and is_mnist_like(grey)):
            image = np.array(np.rint(grey), np.uint8)  # a copy: the caller may write to it
            trace("image", lambda: image)
            return Prepared(image, blank=not image.any())
    found = _find(pixels, invert, trace)
    ink = np.zeros((1, 1), np.uint8) if found is None else fitted(_strokes(found, trace))
    image = centred(ink)
    trace("image", lambda: image)
    return Prepared(image, blank=found is None)


def is_mnist_like(image: np.ndarray) -> bool:
    """Whether an image is white on black and centred already, as all 70,000 of MNIST are.

    The border is dark; the ink has the right size, and its centre of mass lies in the middle.

    Args:
      image: uint8 or float32 [28, 28] from 0 to 255.
    """
    edges = (image[0], image[-1], image[1:-1, 0], image[1:-1, -1])
    if (
        sum(np.count_nonzero(edge > 64) for edge in edges) > 13
    ):  # an eighth of the border; MNIST has at most 5 such pixels
        return False
    rows, columns = image.max(1), image.max(0)
    down, across = np.flatnonzero(rows > 64), np.flatnonzero(columns > 64)
    if not len(down) or not 14 <= max(down[-1] - down[0], across[-1] - across[0]) + 1 <= 21:
        return False
    weights = image.astype(np.float32)
    total = weights.sum()
    places = np.arange(SIDE, dtype=np.float32)
    middle = (weights.sum(1) @ places / total, weights.sum(0) @ places / total)
    return all(abs(place - MIDDLE) <= 1 for place in middle)


# ---- on paper, grey ----


def _plain(pixels: np.ndarray) -> np.ndarray:
    """Grey levels [h, w] of a small picture, by brightness alone."""
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] == 4:
        pixels = on_paper(pixels)
    if (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all():
        return pixels[..., 0]
    return pixels @ np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


# ---- ink ----


def _find(pixels: np.ndarray, invert: Invert, trace: Trace) -> Ink | None:
    """The digit of a picture, at a resolution that is enough for it."""
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        pixels = on_paper(pixels)
    trace("picture", lambda: np.rint(reduced(pixels, _WORKING_SIDE)).astype(np.uint8))
    small = reduced(pixels, _WORKING_SIDE)
    direction = colour_direction(small)
    grey = to_grey(small, direction)
    trace("grey", lambda: grey)
    found = written(grey, invert)
    scale = max(pixels.shape[:2]) / max(small.shape[:2])
    if found is not None and found.side < _FINE and scale > 1.2:
        part = to_grey(reduced(_around(pixels, found, scale), _WORKING_SIDE // 2), direction)
        trace("grey", lambda: part)
        found = written(part, found.dark) or found
    if found is not None:
        trace("ink", lambda: levels(found.strength, found.level))
        trace("digit", lambda: np.where(found.mask, 255, 0).astype(np.uint8))
    return found


def _around(pixels: np.ndarray, found: Ink, scale: float) -> np.ndarray:
    """The digit's part of the original picture, with some paper on every side."""
    margin = 0.35 * found.side
    rows, columns = (
        slice(
            max(0, int((start + found.box[axis] - margin) * scale)),
            int((start + found.box[axis + 2] + margin) * scale) + 1,
        )
        for axis, start in enumerate(found.origin)
    )
    return pixels[rows, columns]


# ---- stroke ----


def _strokes(found: Ink, trace: Trace) -> np.ndarray:
    """The digit in even ink and with strokes of MNIST's width, uint8 [h, w] about CANONICAL high or wide."""
    top, left, bottom, right = found.box
    height, width = found.mask.shape
    box = slice(max(0, top - 2), min(height, bottom + 2)), slice(max(0, left - 2), min(width, right + 2))
    near = dilated(found.mask[box], 5)
    strength = found.strength[box] * near
    scale = CANONICAL / found.side
    sizes = [max(2, round(size * scale)) for size in strength.shape]
    ink = _even(resized(strength, *sizes), found.level, found.coarse)
    ink = with_margin(ink)
    trace("even", lambda: ink)
    wide = usual_strokes(ink, _THINNING)
    if wide is not ink:
        trace("stroke", lambda: wide)
    return wide


def _even(strength: np.ndarray, level: float, coarse: bool) -> np.ndarray:
    """Ink, uint8 [h, w] from 0 to 255, alike where the pen was pressed lightly and where firmly.

    In a coarse picture nothing but the grey levels tells how wide a stroke is, and where two lie side by
    side: there they are kept.
    """
    if coarse:
        share = strength / np.float32(level)
    else:
        peak = smoothed(dilated(strength, CANONICAL // 4 + 1)).astype(np.float32)
        share = (strength / np.clip(peak, 0.5 * level, level) - THRESHOLD) * 3 + 0.5
    return np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)
