"""The strokes of MNIST's digits, and pens of any width to draw them with again.

A digit is enlarged, thinned to lines one pixel wide, and kept as points with the pairs of them that touch:
lengths and directions without a width or a resolution of their own. Papers, inks and light are left to
`redrawn`. Nothing of the library is used: what is drawn here is there to test how it reads pictures.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

__all__ = ["Strokes", "cut_out", "drawn", "enlarged", "strokes_of"]

_FINE = 4  # times MNIST's resolution: where digits are thinned
_INK = 110  # of 255: what is darker is stroke
_STEADY = 0.8  # MNIST pixels: points are averaged over this distance, as a hand has no corners of a pixel
_BOX = 20  # MNIST pixels: the height of a digit, or its width where that is more


@dataclasses.dataclass(frozen=True, eq=False)
class Strokes:
    """The middle lines of a digit's strokes.

    Attributes:
      points: [k, 2], right and down, in pixels of the 28x28 image.
      pairs: [m, 2], the points that are joined by a line.
    """

    points: Float[np.ndarray, "k 2"]
    pairs: Int[np.ndarray, "m 2"]


def strokes_of(images: UInt8[np.ndarray, "n 28 28"]) -> list[Strokes]:
    """The strokes of each image, white on black."""
    if not len(images):
        return []
    from PIL import Image

    side = 28 * _FINE
    large = [Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC) for image in images]
    return [_joined(lines) for lines in thinned(np.stack([np.asarray(one) > _INK for one in large]))]


def thinned(masks: Bool[np.ndarray, "n h w"]) -> Bool[np.ndarray, "n h w"]:
    """Shapes thinned to lines: Zhang and Suen 1984, "A fast parallel algorithm for thinning"."""
    frame = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
    tables = _removable()
    while True:
        before = frame.sum()
        for table in tables:
            # Clockwise from the one above: each neighbour is a bit of the pixel's code.
            parts = ((0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0))
            code = np.zeros(masks.shape, np.uint8)
            for bit, (down, right) in enumerate(parts):
                neighbour = frame[:, down : down + masks.shape[1], right : right + masks.shape[2]]
                code |= neighbour.astype(np.uint8) << bit
            frame[:, 1:-1, 1:-1] &= ~table[code]
        if frame.sum() == before:
            return frame[:, 1:-1, 1:-1]


def _removable() -> list[Bool[np.ndarray, " 256"]]:
    """For the two passes of a round, and each code of neighbours, whether a pixel is taken off."""
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1  # above, then clockwise
    number, starts = bits.sum(1), ((bits == 0) & (np.roll(bits, -1, 1) == 1)).sum(1)
    edge = (number >= 2) & (number <= 6) & (starts == 1)
    above, right, below, left = bits[:, ::2].astype(bool).T
    lower = ~(above & right & below) & ~(right & below & left)
    upper = ~(above & right & left) & ~(above & below & left)
    return [edge & lower, edge & upper]


def _joined(lines: Bool[np.ndarray, "h w"]) -> Strokes:
    """Pixels of thin lines as points, smoothed, and the pairs of neighbours."""
    points = np.argwhere(lines)[:, ::-1] + 0.5
    distance = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
    near = (distance < _STEADY * _FINE).astype(float)
    smooth = near @ points / near.sum(axis=1, keepdims=True)
    return Strokes(smooth / _FINE, np.argwhere(np.triu(distance < 1.5, 1)))


def drawn(strokes: Strokes, height: float, width: float) -> Float[np.ndarray, "h w"]:
    """Strokes drawn with a round pen, cut out: how much of each pixel is ink, from 0 to 1.

    Args:
      strokes: what to draw.
      height: of a digit that fills its 20-pixel box, in pixels of the result.
      width: of the pen, in the same pixels.
    """
    from PIL import Image, ImageDraw

    finer = 2 if height > 100 else 4  # drawn larger, then averaged, for soft edges
    scale, pen = finer * height / _BOX, max(1, round(finer * width))
    places = strokes.points * scale + pen
    side = finer * (-(-round(28 * scale + 2 * pen) // finer))
    picture = Image.new("L", (side, side))
    draw = ImageDraw.Draw(picture)
    for first, second in strokes.pairs:
        draw.line([*places[first], *places[second]], fill=255, width=pen)
    for x, y in places:
        draw.ellipse([x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2], fill=255)
    return cut_out(np.asarray(picture.reduce(finer), np.float64) / 255)


def enlarged(image: UInt8[np.ndarray, "28 28"], height: float) -> Float[np.ndarray, "h w"]:
    """A digit in its own ink, at another size and with edges as sharp as that allows, cut out.

    Args:
      image: white on black.
      height: as for `drawn`.
    """
    from PIL import Image

    scale = height / _BOX
    side = max(8, round(28 * scale))
    large = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC), np.float64)
    return cut_out(np.clip((large / 255 - 0.45) * max(1.0, scale / 1.5) + 0.45, 0, 1))


def cut_out(ink: Float[np.ndarray, "h w"], least: float = 0.05) -> Float[np.ndarray, "h w"]:
    """The part of a picture that has at least so much ink; all of it, if nothing has."""
    rows, columns = np.flatnonzero((ink > least).any(1)), np.flatnonzero((ink > least).any(0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else ink
