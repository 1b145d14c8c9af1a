"""Random variations of training images: (key, images) to images, pure, inside the compiled step.

`random_affine` moves the strokes: an affine map of each image, drawn afresh at every use: slanted both
ways (which is how a small rotation is made of two shears), bent, then shifted and stretched along both
axes. Each part is a pass of linear interpolation along one axis (Catmull and Smith 1980, "3-D
transformations of images in scanline order"). No pixel is looked up by its address, which on a CPU would
cost a third of the update that it feeds: a shear weighs whole shifted images, a stretch is a small matrix
product. `random_ink` changes how the strokes are drawn, `random_damage` what lies over them and around.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

__all__ = ["random_affine", "random_damage", "random_ink"]

_BOX = 20  # pixels: MNIST's digits are as high, or as wide
_STROKE = 64  # of 255: what is brighter is ink
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
    stretch: float = 0.0,
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
      stretch: probability that the digit gets another aspect: see `_stretched`.
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
    x = _slide(x, down.swapaxes(1, 2), (max_shear + max_slant) * (side - 1) / 2 + max_bend, axis=2)
    x = _slide(x, across, max_shear * (side - 1) / 2 + max_bend, axis=1)
    here, source = middle[:, None], middle[None, :]
    high, wide = _stretched(jax.random.fold_in(key, 2), x, stretch * strength) if stretch else (1.0, 1.0)
    rows = _hat((1 + max_scale * uniform[0]) / high * here + max_shift * uniform[1] - source)
    columns = _hat((1 + max_scale * uniform[2]) / wide * source + max_shift * uniform[3] - here)
    return (rows @ (x @ columns))[..., None]


def _stretched(
    key: jax.Array, x: Float[Array, "batch side side"], share: float | Array
) -> tuple[Float[Array, "batch 1 1"], Float[Array, "batch 1 1"]]:
    """By how much to enlarge the height and the width of each image, so that a share has another aspect.

    Half of those fill a square box, as where every digit was cut out and scaled to it, whatever its aspect;
    the others get anything from a little more than half of their width to that, or to half as much again.
    """
    uniform = jax.random.uniform(key, (3, len(x)))
    width = jnp.clip((x.max(axis=1) > _STROKE).sum(axis=1), 2, _BOX)
    full = jnp.log(_BOX / width)
    least, most = math.log(0.55), jnp.maximum(full, math.log(1.5))
    chosen = jnp.where(uniform[0] < 0.5, full, least + uniform[1] * (most - least))
    wide = jnp.where(uniform[2] < share, jnp.exp(chosen), 1.0)
    room = jnp.minimum(1.0, _BOX / (width * wide))  # a digit that would be wider than the box is flatter
    high, wide = jnp.where(wide > 1, room, 1.0), wide * jnp.where(wide > 1, room, 1.0)
    return high[:, None, None], wide[:, None, None]


def _slide(x: Float[Array, "batch side side"], distance: Array, most: float, axis: int) -> Array:
    """Each row moved left, or each column moved up, by its own distance.

    Args:
      x: the images.
      distance: in pixels: of rows [batch, side, 1], of columns [batch, 1, side].
      most: the greatest distance either way.
      axis: along which pixels move: 2 for rows, 1 for columns.
    """
    reach, side = math.ceil(most), x.shape[axis]
    if not reach:
        return x
    around = [(0, 0)] * x.ndim
    around[axis] = (reach, reach)
    padded = jnp.pad(x, around)
    moved = [
        _hat(distance - by) * jax.lax.slice_in_dim(padded, reach + by, reach + by + side, axis=axis)
        for by in range(-reach, reach + 1)
    ]
    return functools.reduce(jnp.add, moved)


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


def _neighbours(
    x: Float[Array, "batch side side"], pick: Callable[[Array, Array], Array]
) -> Float[Array, "batch side side"]:
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
    for drawn in (uniform[0:5], uniform[5:10]):
        x = _barred(x, drawn, share / 2)
    for drawn in (uniform[14:17], uniform[17:20]):
        x = _edged(x, drawn, share / 3)
    knots = jax.random.uniform(keys[1], (batch, _KNOTS, _KNOTS))
    x = _on_paper(x, uniform[10:14], knots, share)
    which = jax.random.uniform(keys[2], (3, batch, 1, 1))
    x = jnp.where(which[0] < share, x + 0.25 * which[1] * jax.random.normal(keys[3], x.shape), x)
    x = _lossy(x, which[2], jax.random.uniform(jax.random.fold_in(key, 1), x.shape), share)
    return (255 * jnp.clip(x, 0, 1))[..., None]


def _away(side: int, angle: Array, place: Array) -> Float[Array, "batch side side"]:
    """Each pixel's distance from a line, in sides of the image, negative on one side of it.

    Args:
      side: of the image, in pixels.
      angle: of the line's normal, in radians.
      place: of the line, in sides of the image from the middle.
    """
    middle = _places(side)
    turned = jnp.cos(angle) * middle[None, :, None] + jnp.sin(angle) * middle[None, None, :]
    return turned - place


def _places(side: int) -> Float[Array, " side"]:
    """The pixels along an axis, from just above -1/2 to just below 1/2."""
    return (jnp.arange(side, dtype=jnp.float32) - (side - 1) / 2) / side


def _barred(x: Array, uniform: Array, share: float | Array) -> Array:
    """With a bar through it, from 1 to 8 pixels wide, mostly thin; a third black, a third white."""
    side = x.shape[-1]
    away = _away(side, jnp.pi * uniform[1], 0.8 * (uniform[2] - 0.5))
    width = 0.02 + 0.12 * uniform[3] ** 3
    bar = jnp.clip((width - jnp.abs(away)) * side + 0.5, 0, 1)
    grey = jnp.clip(3 * uniform[4] - 1, 0, 1)
    return jnp.where(uniform[0] < share, x + bar * (grey - x), x)


def _edged(x: Array, uniform: Array, share: float | Array) -> Array:
    """With its own negative beyond a line, which lies from 3 to 14 pixels off the middle."""
    beyond = _away(x.shape[-1], 2 * jnp.pi * uniform[1], 0.1 + 0.4 * uniform[2]) > 0
    return jnp.where((uniform[0] < share) & beyond, 1 - x, x)


def _on_paper(x: Array, uniform: Array, knots: Array, share: float | Array) -> Array:
    """With ink of a quarter to all of its strength, on paper of up to three quarters of white, in clouds."""
    places = (_places(x.shape[-1]) + 0.5) * (_KNOTS - 1)
    between = _hat(places[:, None] - jnp.arange(_KNOTS, dtype=jnp.float32)[None, :])
    uneven = between @ knots @ between.T
    ink, paper = 1 - 0.75 * uniform[1], 0.75 * uniform[2]
    paper = paper * (1 + uniform[3] * (uneven - 1))
    return jnp.where(uniform[0] < share, jnp.clip(ink * x + paper, 0, 1), x)


def _lossy(x: Array, uniform: Array, chance: Array, share: float | Array) -> Array:
    """With up to a quarter of the pixels lost, half of them to black, half to white."""
    lost = jnp.where(uniform < share, 0.25 * uniform / share, 0)
    return jnp.where(chance < lost, jnp.where(chance < lost / 2, 0.0, 1.0), x)
