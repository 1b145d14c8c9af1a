"""Random variations of training images: (key, images) to images, pure, inside the compiled step.

`random_affine` moves the strokes: an affine map of each image, drawn afresh at every use: slanted both
ways (which is how a small rotation is made of two shears), bent, then shifted and stretched along both
axes. Each part is a pass of linear interpolation along one axis (Catmull and Smith 1980, "3-D
transformations of images in scanline order"). No pixel is looked up by its address, which on a CPU would
cost a third of the update that it feeds: a shear weighs whole shifted images, a stretch is a small matrix
product. `random_ink` changes how the strokes are drawn, `random_damage` what lies over them and around.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

__all__ = ["random_affine", "random_damage", "random_ink"]

_KNOTS = 5  # of a bend: about one to each part of a digit that can lean on its own


def random_affine(
    key: jax.Array,
    images: UInt8[Array, "batch side side 1"],
    *,
    max_shift: float,
    max_scale: float,
    max_shear: float,
    max_slant: float = 0.0,
    max_bend: float = 0.0,
    strength: float | Array = 1.0,
) -> Float[Array, "batch side side 1"]:
    """Maps each image by its own random affinity; what comes from outside the picture is 0.

    Args:
      key: a JAX random key.
      images: pixels from 0 to 255.
      max_shift: the shift along each axis is uniform within this many pixels.
      max_scale: height and width are divided by factors uniform within this of 1.
      max_shear: rows slide by up to this share of their distance from the middle, columns likewise
        the other way: a rotation by so many radians, nearly.
      max_slant: rows slide by up to this share more, by themselves, as italics do.
      max_bend: each row, and each column, slides by up to so many pixels more, neighbours alike: an
        elastic distortion (Simard et al. 2003, "Best practices for convolutional neural networks") that
        is the sum of one along each axis.
      strength: a factor from 0 to 1 on all of these.
    """
    batch, side = images.shape[:2]
    x = images.reshape(batch, side, side).astype(jnp.float32)
    uniform = strength * jax.random.uniform(key, (6, batch, 1, 1), minval=-1.0, maxval=1.0)
    middle = jnp.arange(side, dtype=jnp.float32) - (side - 1) / 2
    down, across = max_shear * uniform[4] * middle, -max_shear * uniform[4] * middle  # [batch, 1, side]
    down += max_slant * uniform[5] * middle
    if max_bend > 0:
        knots = jax.random.uniform(jax.random.fold_in(key, 1), (2, batch, 1, _KNOTS), minval=-1, maxval=1)
        places = (middle + side / 2) / side * (_KNOTS - 1)
        between = _hat(places[None, :] - jnp.arange(_KNOTS, dtype=jnp.float32)[:, None])
        bends = strength * max_bend * knots @ between
        down, across = down + bends[0], across + bends[1]
    for slide, most in ((down, max_shear + max_slant), (across, max_shear)):
        reach = math.ceil(most * (side - 1) / 2 + max_bend)
        if reach:
            x = _slide(x, slide.swapaxes(1, 2), reach)
        x = x.swapaxes(1, 2)
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


def _resolutions(side: int) -> np.ndarray:
    """Matrices [kinds, side, side] that blur one axis of an image: three widths, two coarse grids."""
    place = np.arange(side)
    kinds = [np.eye(side)]
    for width in (0.6, 1.0):
        weights = np.exp(-0.5 * ((place[:, None] - place[None, :]) / width) ** 2)
        kinds.append(weights / weights.sum(axis=1, keepdims=True))
    for cells in (side // 2, side // 3):
        centres = (np.arange(cells) + 0.5) * side / cells - 0.5
        down = np.maximum(0, 1 - np.abs(place[None, :] - centres[:, None]) * cells / side)
        up = np.maximum(0, 1 - np.abs(place[:, None] - centres[None, :]) * cells / side)
        kinds.append((up / up.sum(axis=1, keepdims=True)) @ (down / down.sum(axis=1, keepdims=True)))
    return np.stack(kinds).astype(np.float32)


def _neighbours(x: Float[Array, "batch side side"], pick) -> Float[Array, "batch side side"]:
    """The greatest, or the least, of each pixel and its four neighbours; beyond the edge is 0."""
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1)))
    column = pick(pick(padded[:, :-2, 1:-1], padded[:, 2:, 1:-1]), x)
    return pick(column, pick(padded[:, 1:-1, :-2], padded[:, 1:-1, 2:]))


def random_ink(
    key: jax.Array, images: Float[Array, "batch side side 1"], *, share: float | Array
) -> Float[Array, "batch side side 1"]:
    """Draws a share of the images with another pen, each change by itself with probability `share`.

    Strokes are thickened or thinned (by part of a dilation or an erosion), hollowed out (the two's
    difference), blurred or taken at a coarser resolution, and their contrast hardened or softened.

    Args:
      key: a JAX random key.
      images: pixels from 0 to 255.
      share: probability of each change to an image, from 0 to 1.
    """
    batch, side = images.shape[:2]
    x = images.reshape(batch, side, side) / 255
    uniform = jax.random.uniform(key, (8, batch, 1, 1))
    thick, thin = _neighbours(x, jnp.maximum), _neighbours(x, jnp.minimum)
    by = jnp.where(uniform[0] < share, 2 * uniform[1] - 1, 0)
    changed = x + jnp.maximum(by, 0) * (thick - x) + 0.8 * jnp.maximum(-by, 0) * (thin - x)
    x = jnp.where(uniform[2] < share / 4, thick - thin, changed)
    kinds = jnp.asarray(_resolutions(side))
    kind = jnp.where(uniform[3] < share, uniform[4] * len(kinds), 0).astype(jnp.int32)
    blur = kinds[kind[:, 0, 0]]
    x = blur @ x @ blur.swapaxes(1, 2)
    slope = jnp.where(uniform[5] < share, jnp.exp(2.5 * uniform[6] - 0.5), 1)  # from 0.6 to 7.4
    middle = 0.3 + 0.3 * uniform[7]
    hard = jnp.clip((x - middle) * slope + middle, 0, 1)
    x = jnp.where(slope == 1, x, hard - jnp.clip(middle - middle * slope, 0, 1))
    return (255 * x)[..., None]


def random_damage(
    key: jax.Array, images: Float[Array, "batch side side 1"], *, share: float | Array
) -> Float[Array, "batch side side 1"]:
    """Damages a share of the images, each kind by itself with probability `share`.

    Bars of random place, direction, width and grey lie over the digit (or rub it out); beyond a random edge
    all is its own negative, as where paper ends; the paper gets a grey that changes slowly from place to
    place while the ink loses contrast; grain is added, and single pixels are lost to black or white.

    Args:
      key: a JAX random key.
      images: pixels from 0 to 255.
      share: probability of each kind of damage to an image, from 0 to 1.
    """
    batch, side = images.shape[:2]
    x = images.reshape(batch, side, side) / 255
    keys = jax.random.split(key, 4)
    uniform = jax.random.uniform(keys[0], (20, batch, 1, 1))
    middle = (jnp.arange(side, dtype=jnp.float32) - (side - 1) / 2) / side

    def across(angle: Array, place: Array) -> Array:
        """Each pixel's distance from a line, in widths of the image, negative on one side of it."""
        turned = jnp.cos(angle) * middle[None, :, None] + jnp.sin(angle) * middle[None, None, :]
        return turned - place

    for first in (0, 5):  # two bars
        away = across(jnp.pi * uniform[first + 1], 0.8 * (uniform[first + 2] - 0.5))
        width = 0.02 + 0.12 * uniform[first + 3] ** 3
        bar = jnp.clip((width - jnp.abs(away)) * side + 0.5, 0, 1)
        grey = jnp.clip(3 * uniform[first + 4] - 1, 0, 1)  # a third black, a third white
        x = jnp.where(uniform[first] < share / 2, x + bar * (grey - x), x)
    for first in (14, 17):  # two edges
        beyond = across(2 * jnp.pi * uniform[first + 1], 0.1 + 0.4 * uniform[first + 2]) > 0
        x = jnp.where((uniform[first] < share / 3) & beyond, 1 - x, x)
    knots = jax.random.uniform(keys[1], (batch, _KNOTS, _KNOTS))
    places = (middle + 0.5) * (_KNOTS - 1)
    between = _hat(places[:, None] - jnp.arange(_KNOTS, dtype=jnp.float32)[None, :])
    uneven = between @ knots @ between.T
    ink, paper = 1 - 0.75 * uniform[11], 0.75 * uniform[12]
    paper = paper * (1 + uniform[13] * (uneven - 1))
    x = jnp.where(uniform[10] < share, jnp.clip(ink * x + paper, 0, 1), x)
    which = jax.random.uniform(keys[2], (3, batch, 1, 1))
    grain = jax.random.normal(keys[3], (batch, side, side))
    x = jnp.where(which[0] < share, x + 0.25 * which[1] * grain, x)
    chance = jax.random.uniform(jax.random.fold_in(key, 1), (batch, side, side))
    lost = jnp.where(which[2] < share, 0.25 * which[2] / share, 0)
    x = jnp.where(chance < lost, jnp.where(chance < lost / 2, 0.0, 1.0), x)
    return (255 * jnp.clip(x, 0, 1))[..., None]
