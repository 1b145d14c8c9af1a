"""3x3 convolutions with a half to two thirds fewer multiplications, for a CPU.

Winograd ("Arithmetic complexity of computations", 1980): `m` outputs of a filter of three, in a row, are the
coefficients of a product of polynomials. Evaluated at `m + 2` points, the polynomials are multiplied number
by number: `m + 2` products instead of `3 m`. Lavin and Gray ("Fast algorithms for convolutional neural
networks", 2016) made convolutions of it: what is evaluated are the images and the filters, along one axis or
both, and each point has a matrix product over the channels. Evaluating is linear, and done here as a matrix
product too; so is the way back. All of it can be differentiated as it stands.

More outputs at once need fewer products and lose more digits. With five, and the points below, results of a
deviation of 1 are off by about a millionth in float32 (`tests/test_winograd.py`).

The convolution here is of images that come pixel by pixel; that of `rowwise` has the same transforms.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

__all__ = ["Transforms", "in_tiles", "mixed", "one_tile", "winograd_convolution", "worth_it"]

_POINTS = (0, 1, -1, 2, -2, 1 / 2)  # and infinity: of those tried, among the ones that lose least
_LARGEST = 5  # outputs at once
_ENOUGH = 8  # input channels, for fewer products to be worth the adding that they take


def worth_it(dtype: jnp.dtype, inputs: int) -> bool:
    """Whether images of this number format, with so many channels, have digits and products to spare."""
    return dtype == jnp.float32 and inputs >= _ENOUGH


def winograd_convolution(
    x: Float[Array, "height width batch inputs"], kernel: Float[Array, "3 3 inputs outputs"]
) -> Float[Array, "height-2 width-2 batch outputs"]:
    """A 3x3 convolution without padding, which is right but for rounding.

    The images come pixel by pixel, so that whatever mixes pixels is a product with a large right side. Small
    ones are evaluated along both axes, larger ones along their columns alone, in several tiles: along both
    they would take more adding and moving about than they spare.

    Args:
      x: the images.
      kernel: the filters.
    """
    height, width = x.shape[:2]
    x = jax.lax.optimization_barrier(x)  # or XLA computes it in the order of the flat form, slowly
    small = height == width and height - 2 <= _LARGEST
    return jax.lax.optimization_barrier(_along_both(x, kernel) if small else _along_columns(x, kernel))


def _along_both(x: Array, kernel: Array) -> Array:
    """One tile of a square image: 25 products instead of 81, where nine outputs are wanted."""
    side = x.shape[0]
    filters, images, outputs = one_tile(side - 2)
    kernels = mixed(filters, kernel.reshape(9, *kernel.shape[2:]))
    points = mixed(images, x.reshape(side * side, *x.shape[2:]))
    products = mixed(outputs, points @ kernels)
    return products.reshape(side - 2, side - 2, *products.shape[1:])


def _along_columns(x: Array, kernel: Array) -> Array:
    """Tiles of five outputs, one below the other; along rows, windows of three pixels are cut."""
    rows, columns = x.shape[0] - 2, x.shape[1] - 2
    filters, images, outputs = in_tiles(rows)
    kernels = mixed(filters, kernel.reshape(3, -1, kernel.shape[3]))
    points = jax.lax.optimization_barrier(mixed(images, x)).reshape(len(images), -1)
    pixel = points.shape[1] // x.shape[1]  # rows are cut as the long runs of numbers that they are
    runs = [points[:, j * pixel : (j + columns) * pixel] for j in range(3)]
    windows = jnp.concatenate([run.reshape(-1, columns, *x.shape[2:]) for run in runs], axis=-1)
    products = windows.reshape(len(kernels), -1, windows.shape[-1]) @ kernels
    return mixed(outputs, products.reshape(len(images), columns, x.shape[2], -1))


def mixed(matrix: Float[np.ndarray, "combinations slices"], x: Array) -> Array:
    """Combinations of the slices of an array along its first axis."""
    return (jnp.asarray(matrix) @ x.reshape(len(x), -1)).reshape(len(matrix), *x.shape[1:])


class Transforms(NamedTuple):
    """The matrices G, B^T and A^T of Lavin and Gray: to points of a filter, of inputs, and back."""

    filters: Float[np.ndarray, "points taps"]
    images: Float[np.ndarray, "points inputs"]
    outputs: Float[np.ndarray, "outputs points"]


def one_tile(side: int) -> Transforms:
    """Those of small square images along both axes, to so many rows and columns."""
    return Transforms(*(np.kron(matrix, matrix) for matrix in _transforms(side)))


def in_tiles(rows: int) -> Transforms:
    """Those along columns, to so many rows, in tiles of up to five of them, one below the other.

    A point of a filter is for as many points of the images as there are tiles, which follow each other.
    """
    of_tile = next(size for size in range(_LARGEST, 0, -1) if rows % size == 0)
    tiles, count, height = rows // of_tile, of_tile + 2, rows + 2
    filters, images, outputs = _transforms(of_tile)
    spread, gathered = np.zeros((count, tiles, height), "f4"), np.zeros((rows, count, tiles), "f4")
    for tile in range(tiles):
        first = tile * of_tile
        spread[:, tile, first : first + count] = images
        gathered[first : first + of_tile, :, tile] = outputs
    return Transforms(filters, spread.reshape(-1, height), gathered.reshape(rows, -1))


@functools.cache
def _transforms(outputs: int) -> Transforms:
    """Those of a row: `outputs + 2` points.

    With V(n) the points' powers below n, the product of polynomials a and b is
    V(n)^-1 (V(k) a * V(n - k + 1) b). A convolution as networks have it is its transpose with respect
    to b.
    """
    count = outputs + 2

    def powers(below: int) -> np.ndarray:
        infinity = np.eye(1, below, below - 1)  # a polynomial's value there is its last coefficient
        return np.concatenate([np.vander(_POINTS[: count - 1], below, increasing=True), infinity])

    matrices = powers(3), np.linalg.inv(powers(count)).T, powers(outputs).T
    return Transforms(*(matrix.astype(np.float32) for matrix in matrices))
