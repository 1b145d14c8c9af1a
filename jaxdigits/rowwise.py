"""The network's layers on images that lie row by row, for a CPU that multiplies in float32.

As far as the pooling, images are [rows, channels, columns, batch]. Their convolutions are as in `winograd`,
evaluated along columns alone, and the three pixels of a window along a row are cut as long runs. Behind the
pooling they are small, lie pixel by pixel, [height, width, channels, batch], and are evaluated along both
axes. Either way each place, a row or a pixel, has a product of its own, of filters with windows that are its
columns: so all three products of an update, forward and both gradients, have sides that XLA's library of CPU
products is fast at (YNNPACK, as of jax 0.12; with jax 0.10, it leaves a core idle).

There is no forward-mode derivative of anything here.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdigits.layers import max_pool, pinned
from jaxdigits.winograd import in_tiles, mixed, one_tile, worth_it

__all__ = ["blocks_by_row", "pixel_convolution", "pixel_dense", "row_convolution"]


def blocks_by_row(x: Float[Array, "batch 28 28 1"]) -> Float[Array, "14 4 14 batch"]:
    """Images row by row, the four pixels of each 2x2 block as four channels."""
    x = x.reshape(-1, 14, 2, 14, 2).transpose(1, 2, 4, 3, 0)
    return pinned(x.reshape(14, 4, 14, -1))


def row_convolution(
    x: Float[Array, "height inputs width batch"],
    kernel: Float[Array, "3 3 inputs outputs"],
    bias: Float[Array, " outputs"],
    pooled: bool,
) -> Float[Array, "rows outputs columns batch"] | Float[Array, "rows columns outputs batch"]:
    """A 3x3 convolution without padding, the bias and the ReLU, of images that lie row by row.

    If it is `pooled`, it ends with the 2x2 maximum, and the result lies pixel by pixel. In float32 it has
    fewer products than by its definition, but of few input channels.
    """
    height, inputs, width, batch = x.shape
    x, kernel = pinned(x), kernel.astype(x.dtype)
    y = (_of_points if worth_it(x.dtype, inputs) else _of_windows)(x, kernel)
    if not pooled:
        return _activated(y, bias, x.dtype).reshape(height - 2, -1, width - 2, batch)
    y = jax.vmap(max_pool, 1, 2)(y.reshape(height - 2, -1, width - 2, batch))
    shape = y.shape
    return _activated(pinned(y).reshape(-1, *shape[2:]), bias, x.dtype).reshape(shape)


def _of_windows(
    x: Float[Array, "height inputs width batch"], kernel: Float[Array, "3 3 inputs outputs"]
) -> Float[Array, "rows outputs numbers"]:
    taps, rows = _taps(x), len(x) - 2
    windows = jnp.concatenate([taps[i : i + rows] for i in range(3)], axis=1)
    return _products(_for_each(rows, kernel), pinned(windows))


def _of_points(
    x: Float[Array, "height inputs width batch"], kernel: Float[Array, "3 3 inputs outputs"]
) -> Float[Array, "rows outputs numbers"]:
    filters, images, outputs = in_tiles(len(x) - 2)
    kernels = mixed(filters, kernel.reshape(3, -1, kernel.shape[-1]))
    kernels = jnp.repeat(kernels, len(images) // len(filters), axis=0)
    return pinned(mixed(outputs, _products(kernels, _taps(pinned(mixed(images, x))))))


def _taps(x: Float[Array, "places inputs width batch"]) -> Float[Array, "places 3*inputs numbers"]:
    """The three pixels of every window along a row as channels, each as one run over columns and images."""
    *_, width, batch = x.shape
    x = x.reshape(*x.shape[:2], -1)
    return pinned(jnp.concatenate([x[:, :, j * batch : (j + width - 2) * batch] for j in range(3)], axis=1))


def pixel_convolution(
    x: Float[Array, "height width inputs batch"],
    kernel: Float[Array, "3 3 inputs outputs"],
    bias: Float[Array, " outputs"],
) -> Float[Array, "rows columns outputs batch"]:
    """The same of small square images that lie pixel by pixel, without a maximum."""
    side = len(x) - 2
    x, kernel = pinned(x), kernel.astype(x.dtype)
    if x.dtype == jnp.float32:
        filters, images, outputs = one_tile(side)
        kernels = mixed(filters, kernel.reshape(9, *kernel.shape[2:]))
        y = _products(kernels, mixed(images, x.reshape(-1, *x.shape[2:])))
        y = pinned(mixed(outputs, y))
    else:
        shifts = [(i, j) for i in range(3) for j in range(3)]
        windows = jnp.concatenate([x[i : i + side, j : j + side] for i, j in shifts], axis=2)
        y = _products(_for_each(side * side, kernel), windows.reshape(side * side, -1, x.shape[-1]))
    return _activated(y, bias, x.dtype).reshape(side, side, *y.shape[1:])


def pixel_dense(
    x: Float[Array, "height width channels batch"], kernel: Float[Array, "height*width*channels outputs"]
) -> Float[Array, "outputs batch"]:
    """A dense layer without its bias, of images that lie pixel by pixel."""
    return _products(kernel.astype(x.dtype)[None], x.reshape(1, -1, x.shape[-1]))[0]


def _activated(
    y: Float[Array, "places outputs numbers"], bias: Float[Array, " outputs"], dtype: jnp.dtype
) -> Float[Array, "places outputs numbers"]:
    """The bias and the ReLU, rounded to a number format."""
    return pinned(jax.nn.relu(y + bias[:, None]).astype(dtype))


def _for_each(
    places: int, kernel: Float[Array, "3 3 inputs outputs"]
) -> Float[Array, "places 9*inputs outputs"]:
    """Whole filters, the same for each place."""
    whole = kernel.reshape(-1, kernel.shape[-1])
    return jnp.broadcast_to(whole, (places, *whole.shape))


@jax.custom_vjp
def _products(
    kernels: Float[Array, "places inputs outputs"], windows: Float[Array, "places inputs numbers"]
) -> Float[Array, "places outputs numbers"]:
    """The product of each place, in float32."""
    return _product(pinned(kernels.swapaxes(1, 2)), windows, (2, 1))


def _products_forward(kernels: Array, windows: Array) -> tuple[Array, tuple[Array, Array]]:
    return _products(kernels, windows), (kernels, windows)


def _products_backward(residuals: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    kernels, windows = residuals
    dy = pinned(dy.astype(windows.dtype))
    dwindows = _product(kernels, dy, (2, 1)).astype(windows.dtype)
    # Behind a barrier, or XLA joins these products of all pieces of a batch into one, which is slower.
    windows, dy = pinned((windows, dy))
    return pinned(_product(windows, dy, (2, 2))).astype(kernels.dtype), dwindows


_products.defvjp(_products_forward, _products_backward)


def _product(left: Array, right: Array, axes: tuple[int, int]) -> Array:
    """The sums over these axes of the two factors of each place, in float32."""
    sides = ((axes[:1], axes[1:]), ((0,), (0,)))
    return jax.lax.dot_general(left, right, sides, preferred_element_type=jnp.float32)
