"""Random variations of training images: (key, images) to images, pure, inside the compiled step.

An affine map of each image, drawn afresh at every use: shifted, stretched along both axes, slanted
both ways (which is how a small rotation is made of two shears). It is computed as two passes of
one-dimensional linear interpolation, rows and then columns (Catmull and Smith 1980, "3-D
transformations of images in scanline order"), each a small matrix product: on a CPU three times
faster than gathering pixels one by one.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

__all__ = ["random_affine"]


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
        the other way: a rotation by so many radians, nearly. 0 saves half of the work.
    """
    batch, side = images.shape[:2]
    x = images.reshape(batch, side, side).astype(jnp.float32)
    uniform = jax.random.uniform(key, (6, batch, 1, 1, 1), minval=-1.0, maxval=1.0)
    shift_y, shift_x = max_shift * uniform[0], max_shift * uniform[1]
    scale_y, scale_x = 1 + max_scale * uniform[2], 1 + max_scale * uniform[3]
    middle = jnp.arange(side, dtype=jnp.float32) - (side - 1) / 2
    source = middle[None, None, None, :]
    if max_shear == 0:
        here = middle[None, None, :, None]
        columns = _hat(scale_x * here + shift_x - source)[:, 0]
        rows = _hat(scale_y * here + shift_y - source)[:, 0]
        x = jnp.einsum("nyj,njk,nxk->nyx", rows, x, columns)
    else:
        shear_x = max_shear * uniform[4]
        shear_y = -shear_x
        outer, here = middle[None, :, None, None], middle[None, None, :, None]
        # In the first pass `outer` is the row and `here` the new column, in the second the reverse.
        columns = _hat(scale_x * here + shear_x * outer + shift_x - source)
        x = jnp.einsum("nyxk,nyk->nyx", columns, x)
        rows = _hat(scale_y * here + shear_y * outer + shift_y - source)
        x = jnp.einsum("nxyk,nkx->nyx", rows, x)
    return x[..., None]


def _hat(distance: Array) -> Array:
    """The weight of a pixel at this distance, in linear interpolation."""
    return jnp.maximum(0, 1 - jnp.abs(distance))
