"""The grey levels of a picture that show its ink best, whatever its colours, transparency and size.

The first steps from pixels to ink, which `image` and `reading` share. What is ink is left to `paper` and
`ink`.
"""

import numpy as np

from jaxdigits.morphology import resized
from jaxdigits.paper import CONTRAST

__all__ = ["colour_direction", "grey_of", "on_paper", "reduced", "to_grey"]

_SAMPLED = 96  # pixels along the longer side whose colours are looked at


def grey_of(pixels: np.ndarray, side: int) -> np.ndarray:
    """A picture's grey levels, uint8 [h, w], its longer side at most `side` pixels.

    Args:
      pixels: from 0 to 255: uint8 or float32 [h, w] grey, uint8 [h, w, 3] RGB or [h, w, 4] RGBA.
      side: the longest that a side may be.
    """
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        pixels = on_paper(pixels)
    pixels = reduced(pixels, side)
    return to_grey(pixels, colour_direction(pixels))


def on_paper(pixels: np.ndarray) -> np.ndarray:
    """An RGBA picture, uint8 [h, w, 4], on white; or on black, if only that shows anything."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    for paper in ("white", "black"):
        whole = Image.alpha_composite(Image.new("RGBA", picture.size, paper), picture).convert("RGB")
        if any(high - low >= CONTRAST for low, high in whole.getextrema()):  # pyright: ignore
            break
    return np.asarray(whole)


def reduced(pixels: np.ndarray, side: int) -> np.ndarray:
    """The picture with its longer side at most `side`."""
    longest = max(pixels.shape[:2])
    if longest <= side:
        return pixels
    return resized(pixels, *(max(1, round(size * side / longest)) for size in pixels.shape[:2]))


def colour_direction(pixels: np.ndarray) -> np.ndarray | None:
    """Weights of red, green and blue whose sum shows the ink best, float32 [3]; their sizes add up to 1.

    The first principal axis of what deviates from the paper's colour, stronger deviations counting more;
    None where the picture is grey.
    """
    if pixels.ndim == 2:
        return None
    step = -(-max(pixels.shape) // _SAMPLED)
    colours = np.ascontiguousarray(pixels[::step, ::step].transpose(2, 0, 1)).reshape(3, -1)
    if (colours[0] == colours[1]).all() and (colours[1] == colours[2]).all():
        return None
    middle = (colours.shape[1] - 1) // 2
    paper = np.partition(colours, middle, axis=1)[:, middle, None]  # the median
    deviation = colours - paper.astype(np.float32)
    weights = np.square(deviation).sum(0)
    _, axes = np.linalg.eigh((deviation * weights) @ deviation.T)
    axis = axes[:, -1]
    return (axis / (np.abs(axis).sum() * (1 if axis.sum() >= 0 else -1))).astype(np.float32)


def to_grey(pixels: np.ndarray, direction: np.ndarray | None) -> np.ndarray:
    """Grey levels, uint8 [h, w], of RGB or grey pixels: colour along `direction`, any offset removed."""
    if pixels.ndim == 3:
        if direction is None:
            return np.ascontiguousarray(pixels[..., 1])
        pixels = pixels @ direction
        pixels += 0.5 - 255 * np.minimum(direction, 0).sum()
        return pixels.astype(np.uint8)
    return pixels if pixels.dtype == np.uint8 else np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)
