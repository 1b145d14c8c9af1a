"""The network's layers as pure functions, in the form in which a CPU is fast at them.

An image is [height, width, channels], or several are one, pixel by pixel: [height, width, batch, channels].
To take a batch of the usual form, `jax.vmap` them.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = [
    "activated",
    "activated_by_pixel",
    "max_pool",
    "patch_convolution",
    "patches",
    "pinned",
    "space_to_depth",
]

pinned = jax.lax.optimization_barrier  # what is behind it does not reach into the loop that computes it


def space_to_depth(x: Float[Array, "batch 28 28 1"]) -> Float[Array, "batch 14 14 4"]:
    """The four pixels of each 2x2 block as four channels: a 3x3 convolution then sees 6x6 pixels."""
    x = x.reshape(-1, 14, 2, 14, 2).transpose(0, 1, 3, 2, 4)
    return x.reshape(-1, 14, 14, 4)


def patches(
    x: Float[Array, "height width *batch channels"],
) -> Float[Array, "rows columns *batch 9*channels"]:
    """Every 3x3 window of an image, flattened: the left side of a convolution's product.

    The image is computed to the end first: XLA would compute what leads to it for each of the nine shifts
    again. A row of a single image is taken as one run of numbers, as XLA's loops are faster over long ones.
    """
    height, width, *_, channels = x.shape
    rows, columns = height - 2, width - 2
    shifts = [(i, j) for i in range(3) for j in range(3)]
    x = jax.lax.optimization_barrier(x)
    if x.ndim > 3:
        return jnp.concatenate([x[i : i + rows, j : j + columns] for i, j in shifts], axis=-1)
    x = x.reshape(height, width * channels)
    runs = [x[i : i + rows, j * channels : (j + columns) * channels] for i, j in shifts]
    return jnp.concatenate([run.reshape(rows, columns, channels) for run in runs], axis=-1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def patch_convolution(
    x: Float[Array, "*batch height width inputs"],
    kernel: Float[Array, "3 3 inputs outputs"],
    batch_first: bool,
) -> Float[Array, "*batch rows columns outputs"]:
    """A 3x3 convolution without padding as one matrix product over all windows.

    Its gradient is written out for two reasons. The windows are cut anew rather than kept, which is
    cheaper than the memory. And the kernel's gradient is taken as (outputs x windows) times (windows x
    inputs): the transpose of what differentiation would write, with the smaller matrix to rearrange.
    Both together take a fifth off an update of the preset `fast`. There is no forward-mode derivative.

    Args:
      x: the images.
      kernel: the filters.
      batch_first: whether the images come one by one; else pixel by pixel: [height, width, batch, inputs].
    """
    return _cut(batch_first)(x) @ kernel.reshape(-1, kernel.shape[-1])


def _cut(batch_first: bool) -> Callable[[Array], Array]:
    return jax.vmap(patches) if batch_first else patches


def _forward(x: Array, kernel: Array, batch_first: bool) -> tuple[Array, tuple[Array, Array]]:
    return patch_convolution(x, kernel, batch_first), (x, kernel)


def _backward(batch_first: bool, residuals: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = residuals
    outputs = kernel.shape[-1]
    windows, fold = jax.vjp(_cut(batch_first), x)
    dkernel = (dy.reshape(-1, outputs).T @ windows.reshape(-1, windows.shape[-1])).T.reshape(kernel.shape)
    (dx,) = fold(dy @ kernel.reshape(-1, outputs).T)
    return dx, dkernel


patch_convolution.defvjp(_forward, _backward)


@jax.custom_vjp
def max_pool(x: Float[Array, "height width *batch channels"]) -> Float[Array, "rows columns *batch channels"]:
    """The maximum of each 2x2 window; an odd last row or column is left out.

    Written as maxima of slices: the gradient of `lax.reduce_window` is slow on a CPU. So is that of the
    slices, which is why it is written out: a pixel that is its window's maximum gets the gradient, and
    several that are share it evenly, in one pass over the image. That takes 5% (jax 0.12) to 9% (jax 0.10)
    off an update of the preset `fast`. There is no forward-mode derivative.
    """
    return functools.reduce(jnp.maximum, _corners(x))


def _corners(x: Array) -> list[Array]:
    """The four pixels of every 2x2 window, each as an image of half the size."""
    rows, columns = x.shape[0] // 2 * 2, x.shape[1] // 2 * 2
    return [x[i:rows:2, j:columns:2] for i in (0, 1) for j in (0, 1)]


def _pool_forward(x: Array) -> tuple[Array, tuple[Array, Array]]:
    maximum = max_pool(x)
    return maximum, (x, maximum)


def _pool_backward(residuals: tuple[Array, Array], gradient: Array) -> tuple[Array]:
    x, maximum = residuals
    winners = sum((corner == maximum).astype(x.dtype) for corner in _corners(x))
    share = jax.lax.optimization_barrier(gradient / winners)  # divided once, not for each of four pixels
    return (jnp.where(x == _doubled(maximum, x.shape), _doubled(share, x.shape), 0),)


def _doubled(x: Array, shape: tuple[int, ...]) -> Array:
    """Each pixel as a 2x2 block, in an image of this shape, of which an odd last row or column stays 0."""
    (rows, columns), inner = x.shape[:2], x.shape[2:]
    blocks = jnp.broadcast_to(x[:, None, :, None], (rows, 2, columns, 2, *inner))
    odd = ((0, shape[0] - 2 * rows), (0, shape[1] - 2 * columns), *((0, 0) for _ in inner))
    return jnp.pad(blocks.reshape(2 * rows, 2 * columns, *inner), odd)


max_pool.defvjp(_pool_forward, _pool_backward)


def activated(
    x: Float[Array, "batch height width channels"], bias: Float[Array, " channels"], pooled: bool
) -> Float[Array, "batch rows columns channels"]:
    """What follows a convolution: pooling, if it is `pooled`, the bias and the ReLU.

    The bias and the ReLU commute with the maximum, and cost a quarter behind it.
    """
    return jax.nn.relu((jax.vmap(max_pool)(x) if pooled else x) + bias)


def activated_by_pixel(
    x: Float[Array, "height width batch channels"], bias: Float[Array, " channels"], pooled: bool
) -> Float[Array, "rows columns batch channels"]:
    """The same for images that come pixel by pixel.

    All numbers of a pixel are taken as one run: over as few as there are channels, XLA's loops take up to
    five times longer. The maximum is kept: XLA would take it anew for all that needs it. Together with the
    like in `winograd` this takes 4 to 6% off an update on an Intel Xeon.
    """
    *_, batch, channels = x.shape
    x = x.reshape(*x.shape[:2], -1)
    x = jax.lax.optimization_barrier(max_pool(x)) if pooled else x
    x = jax.nn.relu(x + jax.lax.optimization_barrier(jnp.tile(bias, batch)))
    return jax.lax.optimization_barrier(x).reshape(*x.shape[:2], batch, channels)
