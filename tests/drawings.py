"""Digits drawn, encoded, compared and loaded, for several test modules."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from jaxdigits.sources import Picture, sources


def drawing(
    digit: np.ndarray,
    scale: int = 10,
    size: tuple[int, int] = (640, 480),
    at: tuple[int, int] = (200, 100),
    kernel: Image.Resampling = Image.Resampling.BICUBIC,
) -> np.ndarray:
    """A digit enlarged, in black, somewhere on a white canvas: uint8 [h, w]."""
    canvas = np.full(size[::-1], 255, np.uint8)
    large = Image.fromarray(digit).resize((28 * scale, 28 * scale), kernel)
    canvas[at[1] : at[1] + 28 * scale, at[0] : at[0] + 28 * scale] = 255 - np.asarray(large)
    return canvas


def encoded(picture: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """A picture as the content of a file."""
    file = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(file, kind, **options)
    return file.getvalue()


def likeness(images: Sequence[Any] | np.ndarray, originals: Sequence[Any] | np.ndarray) -> np.ndarray:
    """The correlation of each image with its original."""
    flat = [np.reshape(x, (len(x), -1)).astype(np.float64) for x in (images, originals)]
    a, b = (x - x.mean(1, keepdims=True) for x in flat)
    return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))


def loaded(pictures: Any) -> list[Picture]:
    """All that a user's pictures hold."""
    return [source.load() for source in sources(pictures)]


def only(picture: Any) -> Picture:
    """The one picture that something holds."""
    (one,) = loaded(picture)
    return one
