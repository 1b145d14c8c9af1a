"""Random variations of training images: (key, images) to images, pure, inside the compiled step.

An affine map of each image, drawn afresh at every use: slanted both ways (which is how a small rotation
is made of two shears), then shifted and stretched along both axes. Each part is a pass of linear
interpolation along one axis (Catmull and Smith 1980, "3-D transformations of images in scanline order").
No pixel is looked up by its address, which on a CPU would cost a third of the update that it feeds: a
shear weighs whole shifted images, a stretch is a small matrix product.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

__all__ = ["affine", "draw", "random_affine"]


def random_affine(
    key: jax.Array,
    images: UInt8[Array, "batch side side 1"],
    *,
    max_shift: float,
    max_scale: float,
    max_shear: float,
) -> Float[Array, "batch side side 1"]:
    """Maps each image by its own random affinity; what comes from outside the picture is 0.

    Args:
      key: a JAX random key.
      images: pixels from 0 to 255.
      max_shift: the shift along each axis is uniform within this many pixels.
      max_scale: height and width are divided by factors uniform within this of 1.
      max_shear: rows slide by up to this share of their distance from the middle, columns likewise
        the other way: a rotation by so many radians, nearly.
    """
    limits = {"max_shift": max_shift, "max_scale": max_scale, "max_shear": max_shear}
    return affine(draw(key, len(images)), images, **limits)


def draw(key: jax.Array, n: int) -> Float[Array, "n 5 1 1"]:
    """What is random about the variation of `n` images: numbers from -1 to 1, five for each."""
    return jax.random.uniform(key, (5, n, 1, 1), minval=-1.0, maxval=1.0).swapaxes(0, 1)


def affine(
    drawn: Float[Array, "batch 5 1 1"],
    images: UInt8[Array, "batch side side 1"],
    *,
    max_shift: float,
    max_scale: float,
    max_shear: float,
) -> Float[Array, "batch side side 1"]:
    """Maps each image by the affinity that was drawn for it. Arguments as for `random_affine`."""
    batch, side = images.shape[:2]
    x = images.reshape(batch, side, side).astype(jnp.float32)
    uniform = drawn.swapaxes(0, 1)
    middle = jnp.arange(side, dtype=jnp.float32) - (side - 1) / 2
    if max_shear > 0:
        reach = math.ceil(max_shear * (side - 1) / 2)
        slide = max_shear * uniform[4] * middle  # [batch, 1, side]: pixels
        x = _slide(x, slide.swapaxes(1, 2), reach)
        x = _slide(x.swapaxes(1, 2), -slide.swapaxes(1, 2), reach).swapaxes(1, 2)
    here, source = middle[:, None], middle[None, :]
    rows = _hat((1 + max_scale * uniform[0]) * here + max_shift * uniform[1] - source)
    columns = _hat((1 + max_scale * uniform[2]) * source + max_shift * uniform[3] - here)
    return (rows @ (x @ columns))[..., None]


def _slide(
    x: Float[Array, "batch side side"], distance: Float[Array, "batch side 1"], reach: int
) -> Float[Array, "batch side side"]:
    """Each row moved left by its own distance in pixels, at most `reach` either way."""
    side = x.shape[-1]
    padded = jnp.pad(x, ((0, 0), (0, 0), (reach, reach)))
    shifts = range(-reach, reach + 1)
    moved = sum(_hat(distance - by) * padded[:, :, reach + by : reach + by + side] for by in shifts)
    return jnp.asarray(moved)


def _hat(distance: Array) -> Array:
    """The weight of a pixel at this distance, in linear interpolation."""
    return jnp.maximum(0, 1 - jnp.abs(distance))
