"""The convolutions of `columns` on blocks of 2x2 pixels.

From the first convolution to the pooling, the four pixels of a block lie as one with four times the channels:
[4*channels, height/2, width/2, batch]. A 3x3 convolution is then a 2x2 one of blocks, whose filters are the
same numbers four times over, with zeros between them. A column holds the 16 pixels that four outputs need,
where `columns` cuts four windows of nine: less than half as much. A matrix unit has four times the filters to
multiply it with, and the maximum of a block is taken across its channels, in long runs. The price is products
with zeros: 16 for each 9.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdigits.columns import activated, convolution
from jaxdigits.layers import pinned

__all__ = ["block_convolution", "block_kernel", "block_max_pool", "blocks_of_blocks"]


def blocks_of_blocks(x: Float[Array, "batch 28 28 1"]) -> Float[Array, "16 7 7 batch"]:
    """Images as this module takes them: 2x2 blocks of 2x2 pixels, as sixteen channels."""
    x = x.reshape(-1, 7, 2, 2, 7, 2, 2).transpose(2, 5, 3, 6, 1, 4, 0)
    return pinned(x.reshape(16, 7, 7, -1))


def block_convolution(
    x: Float[Array, "4*inputs height width batch"],
    kernel: Float[Array, "3 3 inputs outputs"],
    bias: Float[Array, " outputs"],
    pooled: bool,
) -> Float[Array, "channels height-1 width-1 batch"]:
    """A 3x3 convolution without padding, of blocks to blocks, the bias and the ReLU.

    If it is `pooled`, to the maximum of each block, with a channel for each output instead of four. There is
    no forward-mode derivative.
    """
    y = convolution(x, pinned(block_kernel(kernel)))
    if pooled:
        return activated(pinned(block_max_pool(y.reshape(4, -1, *y.shape[1:]))), bias, x.dtype)
    return activated(y, jnp.tile(bias, 4), x.dtype)


def block_kernel(kernel: Float[Array, "3 3 inputs outputs"]) -> Float[Array, "2 2 4*inputs 4*outputs"]:
    """The filters of a 3x3 convolution of pixels as those of a 2x2 convolution of blocks."""
    *_, inputs, outputs = kernel.shape
    places = [(row, column) for row in (0, 1) for column in (0, 1)]  # of an output in its block
    moved = [jnp.pad(kernel, ((i, 1 - i), (j, 1 - j), (0, 0), (0, 0))) for i, j in places]
    # By the output's place, then by the input's row, as that of a block and that within it, and column alike.
    blocks = jnp.stack(moved).reshape(4, 2, 2, 2, 2, inputs, outputs)
    return blocks.transpose(1, 3, 2, 4, 5, 0, 6).reshape(2, 2, 4 * inputs, 4 * outputs)


@jax.custom_vjp
def block_max_pool(
    y: Float[Array, "4 channels height width batch"],
) -> Float[Array, "channels height width batch"]:
    """The maximum of the four pixels of each block.

    Its gradient is that of `layers.max_pool`: pixels that are the maximum share it evenly. It is written out,
    pixel by pixel: jax 0.10 takes a third longer otherwise. There is no forward-mode derivative.
    """
    return functools.reduce(jnp.maximum, list(y))


def _pool_forward(y: Array) -> tuple[Array, tuple[Array, Array]]:
    maximum = block_max_pool(y)
    return maximum, (y, maximum)


def _pool_backward(residuals: tuple[Array, Array], gradient: Array) -> tuple[Array]:
    y, maximum = residuals
    share = pinned(gradient / sum((pixel == maximum).astype(y.dtype) for pixel in y))
    return (jnp.concatenate([jnp.where(pixel == maximum, share, 0)[None] for pixel in y]),)


block_max_pool.defvjp(_pool_forward, _pool_backward)
