"""Image processing on whole batches, in NumPy alone: what the corruptions and the non-digits are made with.

Everything takes and gives float arrays [n, height, width] and is a pure function of its arguments. Where a
result depends on a convention (how a blur ends at the edge, what an edge detector compares), it is that of
SciPy 1 and scikit-image 0.15, with which MNIST-C was made. Reading and normalising pictures is the
library's business (`jaxdigits.image`), augmenting for training too (`jaxdigits.augment`).
"""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

__all__ = ["affine", "canny", "centred_matrix", "gaussian_blur", "line", "motion_blur", "plasma"]

_TRUNCATE = 4.0  # standard deviations to which a Gaussian kernel reaches: SciPy's default
_PLASMA_ROUGHNESS = (
    100.0  # first amplitude of the plasma; of no effect but through rounding: it is normalised
)
_PORTION = 32  # plasma fields of 256x256 that are made at a time, 8 MiB


def _blur_matrix(side: int, sigma: float, edge: str) -> Float[np.ndarray, "side side"]:
    """The matrix that blurs a column of `side` pixels."""
    reach = int(_TRUNCATE * sigma + 0.5)
    steps = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (steps / sigma) ** 2) if sigma else np.ones(1)
    matrix = np.zeros((side, side))
    for pixel in range(side):
        sources = pixel + steps
        if edge == "nearest":
            np.add.at(matrix[pixel], np.clip(sources, 0, side - 1), kernel)
        else:
            inside = (sources >= 0) & (sources < side)
            matrix[pixel, sources[inside]] = kernel[inside]
    return matrix / matrix.sum(axis=1, keepdims=True)


def gaussian_blur(
    images: Float[np.ndarray, "n h w"],
    sigma: tuple[float, float],
    edge: Literal["nearest", "inside"] = "nearest",
) -> Float[np.ndarray, "n h w"]:
    """Blurs with a Gaussian that ends at four standard deviations.

    Args:
      images: of any range.
      sigma: standard deviation along rows' axis (vertical) and columns' axis (horizontal), in pixels; 0
        for none.
      edge: what lies outside: the `nearest` pixel; or nothing, so that only weights `inside` count.
    """
    vertical = _blur_matrix(images.shape[-2], sigma[0], edge)
    horizontal = _blur_matrix(images.shape[-1], sigma[1], edge)
    return vertical @ images @ horizontal.T


def centred_matrix(
    linear: Float[np.ndarray, "n 2 2"], side: int, shift: Float[np.ndarray, "n 2"] | float = 0.0
) -> Float[np.ndarray, "n 2 3"]:
    """Affine matrices for `affine` that keep the middle of a square image where it is, before a shift.

    Args:
      linear: acting on (x, y), x to the right and y downwards.
      side: of the image, in pixels.
      shift: (x, y) in pixels, added to the place that is read from: content moves the other way.
    """
    middle = np.full(2, (side - 1) / 2)
    offset = middle - linear @ middle + shift
    return np.concatenate([linear, offset[:, :, None]], axis=2)


def affine(
    images: Float[np.ndarray, "n h w"], matrices: Float[np.ndarray, "n 2 3"]
) -> Float[np.ndarray, "n h w"]:
    """Warps each image by its own matrix: bilinear, black outside.

    Args:
      images: of any range, 0 being the background.
      matrices: from a place (x, y, 1) in the result, in pixels, to the place in the image that is read.
    """
    n, height, width = images.shape
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=0).reshape(2, -1)
    x, y = np.moveaxis(matrices[:, :, :2] @ grid + matrices[:, :, 2:], 1, 0)  # [n, h * w] each
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1))).reshape(n, (height + 2) * (width + 2))
    # Places beyond the black frame read from the frame: from 0 to side, in the coordinates of the frame.
    x, y = np.clip(x + 1, 0, width + 1), np.clip(y + 1, 0, height + 1)
    left, top = np.minimum(x.astype(int), width), np.minimum(y.astype(int), height)
    x, y = x - left, y - top
    first = top * (width + 2) + left

    def corner(step: int) -> np.ndarray:
        return np.take_along_axis(padded, first + step, axis=1)

    above = corner(0) * (1 - x) + corner(1) * x
    below = corner(width + 2) * (1 - x) + corner(width + 3) * x
    return (above * (1 - y) + below * y).reshape(n, height, width)


def motion_blur(
    images: Float[np.ndarray, "n h w"], radius: float, sigma: float, degrees: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "n h w"]:
    """Smears each image to one side along a straight line, as ImageMagick's MotionBlurImage does.

    Args:
      images: of any range; the nearest pixel stands for what lies outside.
      radius: of the kernel, in pixels: it has 2 * ceil(radius) + 1 weights.
      sigma: standard deviation of the kernel, half a Gaussian, in pixels.
      degrees: direction, per image, that is read along: 0 to the right, 90 downwards.
    """
    n, height, width = images.shape
    steps = np.arange(2 * int(np.ceil(radius)) + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    angles = np.deg2rad(degrees)[:, None]
    right = np.ceil(steps * np.cos(angles) - 0.5).astype(int)  # [n, steps]
    down = np.ceil(steps * np.sin(angles) - 0.5).astype(int)
    flat, result = images.reshape(n, height * width), np.zeros((n, height * width))
    for step, weight in enumerate(weights):
        rows = np.clip(np.arange(height) + down[:, step, None], 0, height - 1)  # [n, h]
        columns = np.clip(np.arange(width) + right[:, step, None], 0, width - 1)  # [n, w]
        places = (rows[:, :, None] * width + columns[:, None, :]).reshape(flat.shape)
        result += weight * np.take_along_axis(flat, places, axis=1)
    return result.reshape(images.shape)


def plasma(
    n: int, side: int, decay: float, rng: np.random.Generator, crop: int | None = None
) -> Float[np.ndarray, "n crop crop"]:
    """Cloudy random fields by the diamond-square algorithm on a torus (Fournier et al. 1982).

    Args:
      n: number of fields.
      side: of each field; a power of two.
      decay: the square root of what roughness falls by with every halving of the grid: the larger, the
        smoother. (MNIST-C's own program multiplies its `wibble` by itself.)
      rng: source of the randomness.
      crop: side of the upper left corner that is returned; by default all.

    Returns:
      Values from 0 to 1, both of which occur in each whole field.

    Raises:
      ValueError: `side` is no power of two.
    """
    if side < 2 or side & (side - 1):
        raise ValueError(f"side is {side}; expected a power of two")
    portions = [min(_PORTION, n - start) for start in range(0, n, _PORTION)]
    fields = [_diamond_square(portion, side, decay, rng)[:, :crop, :crop].copy() for portion in portions]
    return np.concatenate([np.zeros((0, crop or side, crop or side), np.float32), *fields])


def _diamond_square(n: int, side: int, decay: float, rng: np.random.Generator) -> np.ndarray:
    """Some fields of `plasma`, float32 [n, side, side]."""
    field = np.zeros((n, side, side), np.float32)
    step, amplitude = side, 1.0  # of no effect: the field is normalised in the end

    def displaced(sums: np.ndarray) -> np.ndarray:
        noise = rng.random(sums.shape, np.float32)
        return sums / 4 + np.float32(amplitude) * (2 * noise - 1)

    while step > 1:
        half = step // 2
        corners = field[:, ::step, ::step]
        pairs = corners + np.roll(corners, -1, axis=1)
        field[:, half::step, half::step] = displaced(pairs + np.roll(pairs, -1, axis=2))
        middles = field[:, half::step, half::step]
        beside = corners + np.roll(corners, -1, axis=2) + middles + np.roll(middles, 1, axis=1)
        field[:, ::step, half::step] = displaced(beside)
        beside = corners + np.roll(corners, -1, axis=1) + middles + np.roll(middles, 1, axis=2)
        field[:, half::step, ::step] = displaced(beside)
        step, amplitude = half, amplitude / decay**2
    field -= field.min(axis=(1, 2), keepdims=True)
    return field / field.max(axis=(1, 2), keepdims=True)


def line(
    starts: Float[np.ndarray, "n 2"], ends: Float[np.ndarray, "n 2"], side: int
) -> Float[np.ndarray, "n side side"]:
    """Draws a straight line from left to right, bright at its middle, fading within two pixels.

    Args:
      starts: (column, row) of the left end, in pixels.
      ends: of the right end, in a greater column.
      side: of the images.

    Returns:
      From 0 to 1. Brightness is 1 + log(1 - d / 2.3) at d pixels above or below the line.
    """
    columns, rows = np.arange(side)[None, None, :], np.arange(side)[None, :, None]
    (x0, y0), (x1, y1) = starts.T[:, :, None, None], ends.T[:, :, None, None]
    middle = y0 + (y1 - y0) / (x1 - x0) * (columns - x0)
    distance = np.clip(np.abs(rows - middle), 0, 2.3 - 1e-10)
    inside = (columns >= np.floor(x0)) & (columns < np.ceil(x1))
    return np.clip(1 + np.log(1 - distance / 2.3), 0, 1) * inside


def canny(
    images: Float[np.ndarray, "n h w"], sigma: float = 1.0, low: float = 0.1, high: float = 0.2
) -> Bool[np.ndarray, "n h w"]:
    """Edges, one pixel thin (Canny 1986): a ridge of the gradient that somewhere is strong.

    Args:
      images: from 0 to 1.
      sigma: standard deviation of the blur before, in pixels.
      low: least gradient of an edge. A gradient is the length of Sobel's, which is 4 at a sharp step.
      high: gradient that an edge must reach somewhere along its 8-connected course.
    """
    blurred = gaussian_blur(images, (sigma, sigma), "inside")
    padded = np.pad(blurred, ((0, 0), (1, 1), (1, 1)), mode="symmetric")
    across, down = padded[:, :, 2:] - padded[:, :, :-2], padded[:, 2:] - padded[:, :-2]
    across = across[:, :-2] + 2 * across[:, 1:-1] + across[:, 2:]
    down = down[:, :, :-2] + 2 * down[:, :, 1:-1] + down[:, :, 2:]
    strength = np.hypot(across, down)
    ridge = _ridges(strength, across, down)
    weak, kept = ridge & (strength >= low), ridge & (strength >= high)
    while True:
        grown = weak & _dilated(kept)
        if (grown == kept).all():
            return kept
        kept = grown


def _ridges(strength: np.ndarray, across: np.ndarray, down: np.ndarray) -> Bool[np.ndarray, "n h w"]:
    """Where the gradient is no weaker than on either side, along its own direction.

    What lies one pixel on is interpolated between the neighbour straight ahead and the diagonal one. The
    outermost pixels are never ridges: what is beside them is not known.
    """
    steep, flat = np.maximum(np.abs(across), np.abs(down)), np.minimum(np.abs(across), np.abs(down))
    share = np.divide(flat, steep, out=np.zeros_like(steep), where=steep > 0)
    padded = np.pad(strength, ((0, 0), (1, 1), (1, 1)))
    height, width = strength.shape[1:]

    def beside(rows: int, columns: int) -> np.ndarray:
        return padded[:, 1 + rows : 1 + rows + height, 1 + columns : 1 + columns + width]

    vertical, alike = np.abs(down) >= np.abs(across), across * down >= 0
    ridge = strength > 0
    for sign in (-1, 1):
        ahead = np.where(vertical, beside(sign, 0), beside(0, sign))
        # Opposite signs: up and to the right. Either diagonal is met by both signs of the loop.
        other = np.where(vertical, beside(sign, -sign), beside(-sign, sign))
        diagonal = np.where(alike, beside(sign, sign), other)
        ridge &= share * diagonal + (1 - share) * ahead <= strength
    ridge[:, [0, -1], :] = False
    ridge[:, :, [0, -1]] = False
    return ridge


def _dilated(marks: Bool[np.ndarray, "n h w"]) -> Bool[np.ndarray, "n h w"]:
    """The marks and their eight neighbours."""
    padded = np.pad(marks, ((0, 0), (1, 1), (1, 1)))
    rows = padded[:, :-2] | padded[:, 1:-1] | padded[:, 2:]
    return rows[:, :, :-2] | rows[:, :, 1:-1] | rows[:, :, 2:]
