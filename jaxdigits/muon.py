"""Muon: an optimizer that changes a matrix in all directions alike.

Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks". AdamW scales each number of a
gradient by itself; Muon takes a gradient's running mean as the matrix that it is, and makes all of its
singular values about 1. A training of less than an epoch so gets to the same accuracy with a quarter fewer
images, and in larger batches.

Written here since it is to take little of an update of 5 ms. As usually written (so is Optax's), each of its
five iterations multiplies the whole matrix by a square one, twice. Here the iterations are made of the square
ones alone, and the matrix is multiplied at the end, once. Three iterations do, since the matrix is divided by
a closer bound of its largest singular value (Boissin et al. 2025, "Turbo-Muon").
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

__all__ = ["orthogonalized", "scale_by_muon"]

_ITERATIONS = 3
_COEFFICIENTS = 3.4445, -4.7750, 2.0315  # Jordan's: small singular values grow fastest, the rest is near 1


class MuonState(NamedTuple):
    """The running means of the gradients, not yet corrected for their first value, which is 0."""

    mean: Any


def scale_by_muon(momentum: float) -> optax.GradientTransformation:
    """Gradients to changes whose singular values are about 1, with Nesterov's momentum.

    Each leaf is taken for the matrix that has its last axis as columns, as a convolution's kernel is for
    patches of an image.

    Args:
      momentum: how much of the running mean each update keeps.
    """

    def init(params: Any) -> MuonState:
        return MuonState(jax.tree.map(jnp.zeros_like, params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, MuonState]:
        del params
        mean = jax.tree.map(lambda m, g: momentum * m + (1 - momentum) * g, state.mean, updates)

        def changed(m: Array, g: Array) -> Array:
            ahead = momentum * m + (1 - momentum) * g  # whatever its length: it does not count
            return orthogonalized(ahead.reshape(-1, ahead.shape[-1])).reshape(ahead.shape)

        return jax.tree.map(changed, mean, updates), MuonState(mean)

    return optax.GradientTransformation(init, update)


def orthogonalized(matrix: Float[Array, "rows columns"]) -> Float[Array, "rows columns"]:
    """The matrix with the same singular vectors, whose singular values are about 1: from 0.68 to 1.21.

    Smaller are only those that were below a fiftieth of the fourth root of the sum of all fourth powers. A
    matrix of zeros stays as it is. X <- X (a + b X'X + c (X'X)^2), three times over, is X by a polynomial
    in X'X; that polynomial is found first.
    """
    if matrix.shape[0] < matrix.shape[1]:
        return orthogonalized(matrix.T).T
    a, b, c = _COEFFICIENTS
    square = matrix.T @ matrix
    bound = jnp.linalg.norm(square) + jnp.finfo(matrix.dtype).tiny  # of the largest singular value's square
    square, one = square / bound, jnp.eye(len(square), dtype=matrix.dtype)
    product = factor = a * one + b * square + c * (square @ square)
    for _ in range(_ITERATIONS - 1):
        square = factor @ factor @ square
        factor = a * one + b * square + c * (square @ square)
        product = factor @ product
    return matrix @ (product * jax.lax.rsqrt(bound))
