"""What the network saw, for people to look at: one row a picture, step by step, with the answer.

The steps are those of `image.stages`; this only draws them side by side.
"""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxdigits.storage import atomic_write

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["draw_strip", "save_strip"]

_TILE = 168  # pixels: six times the side of the model's input
_TEXT = 22  # pixels: the height of a line of text
_GAP = 8  # pixels
_INK, _PAPER = (40, 40, 40), (255, 255, 255)
_FONT = 13  # points

Row = tuple[str, Mapping[str, np.ndarray]]


def draw_strip(rows: Sequence[Row]) -> "Image":
    """Draws the steps of several pictures.

    Args:
      rows: for each picture a title and its steps, uint8 arrays by name, as `image.stages` gives them.
        Every step has a column of its own, in the order of the longest row.
    """
    from PIL import Image, ImageDraw, ImageFont

    columns = list(max((steps for _, steps in rows), key=len, default={}))
    for _, steps in rows:
        columns += [name for name in steps if name not in columns]
    columns.sort(key="image".__eq__)  # what the network sees comes last
    font = ImageFont.load_default(_FONT)
    width = max(1, len(columns)) * (_TILE + _GAP) + _GAP
    height = _TILE + 2 * _TEXT + _GAP
    strip = Image.new("RGB", (width, max(1, len(rows)) * height + _GAP), _PAPER)
    canvas = ImageDraw.Draw(strip)
    for row, (title, steps) in enumerate(rows):
        top = row * height + _GAP
        canvas.text((_GAP, top), _fitting(title, width - 2 * _GAP, font), fill=_INK, font=font)
        for column, name in enumerate(columns):
            if name in steps:
                left = _GAP + column * (_TILE + _GAP)
                size = f"{name}, {steps[name].shape[1]}x{steps[name].shape[0]}"
                canvas.text((left, top + _TEXT), size, fill=_INK, font=font)
                strip.paste(_tile(steps[name]), (left, top + 2 * _TEXT))
    return strip


def _fitting(title: str, width: int, font: object) -> str:
    """A title on one line, its beginning left out where it is too long: of a path, the end tells more."""
    title = " ".join(title.encode("utf-8", "backslashreplace").decode().split())
    while len(title) > 4 and font.getlength(title) > width:  # pyright: ignore[reportAttributeAccessIssue]
        title = "..." + title[4:]
    return title


def _tile(values: np.ndarray) -> "Image":
    """A picture on a grey square of _TILE pixels; small ones as squares, large ones averaged."""
    from PIL import Image

    picture = Image.fromarray(values).convert("RGB")
    scale = _TILE / max(picture.size)
    kind = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
    picture = picture.resize([max(1, round(side * scale)) for side in picture.size], kind)
    tile = Image.new("RGB", (_TILE, _TILE), (225, 225, 225))
    tile.paste(picture, ((_TILE - picture.width) // 2, (_TILE - picture.height) // 2))
    return tile


def save_strip(path: str | os.PathLike[str], rows: Sequence[Row]) -> None:
    """Draws the steps of several pictures into a PNG file.

    Raises:
      StorageError: the file cannot be written.
    """
    strip = draw_strip(rows)
    with atomic_write(path) as file:
        strip.save(file, "PNG")
