"""The network's layers as products with columns, for a device that multiplies bfloat16 in a matrix unit.

Images lie channel by channel, [channels, height, width, batch], as in cuda-convnet (Krizhevsky 2014, "One
weird trick for parallelizing convolutional neural networks"). Of a convolution, each column of the right
factor is a window, and the left factor's rows are filters: all three products of an update, forward and both
gradients, then have the sides that XLA's library of CPU products takes in bfloat16 (YNNPACK: the left factor
by rows, the right one by rows or by columns), where those of images that come one by one fall back to a
general one, at a fifth of the rate. And whatever is cut, pooled or added lies in runs as long as the batch.

Factors are rounded to the number format of the images; sums, biases, pooling and ReLU are float32.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdigits.layers import max_pool, pinned

__all__ = [
    "activated",
    "blocks_by_channel",
    "column_convolution",
    "column_dense",
    "columns",
    "convolution",
]


def blocks_by_channel(x: Float[Array, "batch 28 28 1"]) -> Float[Array, "4 14 14 batch"]:
    """Images as this module takes them, the four pixels of each 2x2 block as four channels."""
    x = x.reshape(-1, 14, 2, 14, 2).transpose(2, 4, 1, 3, 0)
    return pinned(x.reshape(4, 14, 14, -1))


def columns(
    x: Float[Array, "channels height width batch"], size: int
) -> Float[Array, "size*size*channels windows"]:
    """Every window of this size as a column: row by row of the image, and of each pixel image by image."""
    channels, height, width, batch = x.shape
    rows, across = height - size + 1, (width - size + 1) * batch
    x = x.reshape(channels, height, width * batch)
    taps = [(i, j) for i in range(size) for j in range(size)]
    runs = [x[:, i : i + rows, j * batch : j * batch + across] for i, j in taps]
    return jnp.concatenate(runs).reshape(len(taps) * channels, -1)


def column_convolution(
    x: Float[Array, "inputs height width batch"],
    kernel: Float[Array, "3 3 inputs outputs"],
    bias: Float[Array, " outputs"],
    pooled: bool,
) -> Float[Array, "outputs rows columns batch"]:
    """A 3x3 convolution without padding, a 2x2 maximum if it is `pooled`, the bias and the ReLU.

    There is no forward-mode derivative.
    """
    y = convolution(x, kernel)
    return activated(pinned(jax.vmap(max_pool)(y)) if pooled else y, bias, x.dtype)


def activated(
    y: Float[Array, "outputs rows columns batch"], bias: Float[Array, " outputs"], dtype: jnp.dtype
) -> Float[Array, "outputs rows columns batch"]:
    """The bias and the ReLU, rounded to a number format."""
    flat = y.reshape(len(y), -1) + bias[:, None]
    return pinned(jax.nn.relu(flat).astype(dtype)).reshape(y.shape)


@jax.custom_vjp
def convolution(
    x: Float[Array, "channels height width batch"], kernel: Float[Array, "size size channels outputs"]
) -> Float[Array, "outputs rows columns batch"]:
    """A convolution without padding, and nothing else, in float32. There is no forward-mode derivative."""
    _, height, width, batch = x.shape
    size, *_, outputs = kernel.shape
    filters = kernel.transpose(3, 0, 1, 2).reshape(outputs, -1)
    y = _product(filters, columns(x, size), 0, x.dtype)
    return y.reshape(outputs, height - size + 1, width - size + 1, batch)


def _convolution_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return convolution(x, kernel), (x, kernel)


def _convolution_backward(residuals: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = residuals
    size, *_, outputs = kernel.shape
    dy = pinned(dy.astype(x.dtype)).reshape(outputs, -1)
    dkernel = _product(columns(x, size), dy, 1, x.dtype).reshape(kernel.shape)
    dcolumns = _product(kernel.reshape(-1, outputs), dy, 0, x.dtype)
    shape = jax.ShapeDtypeStruct(x.shape, dcolumns.dtype)
    fold = jax.linear_transpose(lambda x: columns(x, size), shape)
    return pinned(fold(dcolumns)[0]).astype(x.dtype), dkernel


convolution.defvjp(_convolution_forward, _convolution_backward)


def column_dense(
    x: Float[Array, "channels height width batch"], kernel: Float[Array, "height*width*channels outputs"]
) -> Float[Array, "outputs batch"]:
    """A dense layer without its bias, in float32. There is no forward-mode derivative."""
    return _dense(pinned(x.transpose(1, 2, 0, 3)).reshape(-1, x.shape[-1]), kernel)


@jax.custom_vjp
def _dense(x: Array, kernel: Array) -> Array:
    """[inputs, batch] to [outputs, batch]."""
    return _product(kernel.T, x, 0, x.dtype)


def _dense_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _dense(x, kernel), (x, kernel)


def _dense_backward(residuals: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = residuals
    return _product(kernel, dy, 0, x.dtype).astype(x.dtype), _product(x, dy, 1, x.dtype)


_dense.defvjp(_dense_forward, _dense_backward)


def _product(left: Array, right: Array, axis: int, dtype: jnp.dtype) -> Array:
    """The sums over the last axis of the left factor and this one of the right, in float32.

    The factors are rounded to the number format, and laid out by rows, by way of a single axis: of factors
    that lie by columns, XLA has no product in bfloat16. The product is not left to be transposed with them.
    """

    def by_rows(factor: Array) -> Array:
        return pinned(pinned(factor.astype(dtype)).reshape(-1)).reshape(factor.shape)

    sides = (((1,), (axis,)), ((), ()))
    return pinned(
        jax.lax.dot_general(by_rows(left), by_rows(right), sides, preferred_element_type=jnp.float32)
    )
