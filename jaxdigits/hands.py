"""Digits as other hands write them: what is common elsewhere, and rare in MNIST, whose writers are American.

A 1 with a long upstroke, and perhaps a foot, and a 7 with a bar, as most of Europe writes them. Strokes are
added to the images of a batch, inside the compiled step; how the whole is then varied is left to `augment`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

__all__ = ["random_hand"]

_INK = 0.5  # of white: what is lighter is a stroke

Places = Float[Array, "batch 2"]  # row and column, in pixels


def random_hand(
    key: jax.Array,
    images: UInt8[Array, "batch side side 1"],
    labels: Int[Array, " batch"],
    *,
    share: float | Array,
) -> Float[Array, "batch side side 1"]:
    """Adds an upstroke to a share of the ones, a foot to half as many, and a bar to a share of the sevens.

    Args:
      key: a JAX random key.
      images: pixels from 0 to 255, white on black.
      labels: which digit each shows.
      share: probability, from 0 to 1.
    """
    batch, side = images.shape[:2]
    x = images.reshape(batch, side, side).astype(jnp.float32) / 255
    uniform = jax.random.uniform(key, (9, batch))
    rows = (x > _INK).any(axis=2)
    top, bottom = jnp.argmax(rows, axis=1), side - 1 - jnp.argmax(rows[:, ::-1], axis=1)
    middle = jnp.rint(top + (0.4 + 0.2 * uniform[0]) * (bottom - top))
    width = 1.2 + 1.8 * uniform[1]
    is_one, is_seven = labels == 1, labels == 7

    head, foot, stem = (_on_stroke(x, row) for row in (top, bottom, middle))
    angle, length = 0.35 + 0.8 * uniform[2], 4 + 7 * uniform[3]  # from the vertical, in radians; pixels
    back = jnp.stack([length * jnp.cos(angle), -length * jnp.sin(angle)], axis=1)
    upstroke = _segment(side, head, head + back, width)
    x = jnp.where((is_one & (uniform[4] < share))[:, None, None], jnp.maximum(x, upstroke), x)
    aside = jnp.stack([jnp.zeros(batch), 2 + 4 * uniform[5]], axis=1)
    base = _segment(side, foot - aside, foot + aside, width)
    x = jnp.where((is_one & (uniform[6] < share / 2))[:, None, None], jnp.maximum(x, base), x)
    across = jnp.stack([1.5 - 3 * uniform[7], 3 + 3 * uniform[5]], axis=1)
    bar = _segment(side, stem - across, stem + across, width)
    x = jnp.where((is_seven & (uniform[8] < share))[:, None, None], jnp.maximum(x, bar), x)
    return (255 * x)[..., None]


def _on_stroke(x: Float[Array, "batch side side"], row: Array) -> Places:
    """Where the ink of a row of each image has its middle."""
    places = jnp.arange(x.shape[1], dtype=jnp.float32)
    ink = jnp.sum(jnp.where(places[None, :, None] == row[:, None, None], x, 0), axis=1)
    return jnp.stack([row.astype(jnp.float32), ink @ places / (ink.sum(axis=1) + 1e-6)], axis=1)


def _segment(side: int, start: Places, end: Places, width: Array) -> Float[Array, "batch side side"]:
    """A straight stroke with round ends, from 0 to 1 with soft edges."""
    places = jnp.arange(side, dtype=jnp.float32)
    along = end - start
    down, across = (
        places[None, :, None] - start[:, 0, None, None],
        places[None, None, :] - start[:, 1, None, None],
    )
    dy, dx = along[:, 0, None, None], along[:, 1, None, None]
    part = jnp.clip((down * dy + across * dx) / (dy * dy + dx * dx), 0, 1)
    distance = jnp.sqrt((down - part * dy) ** 2 + (across - part * dx) ** 2)
    return jnp.clip(width[:, None, None] / 2 - distance + 0.5, 0, 1)
