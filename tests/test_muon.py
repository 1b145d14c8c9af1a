import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdigits.muon import orthogonalized, scale_by_muon

SHAPES = pytest.mark.parametrize("shape", [(40, 12), (12, 40), (16, 16), (9, 1), (1, 9)])


def drawn(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def with_singular_values(values: list[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A matrix with these singular values, and its left and right singular vectors."""
    left = np.linalg.qr(drawn((3 * len(values), len(values))))[0]
    right = np.linalg.qr(drawn((len(values), len(values)), 1))[0]
    return left @ np.diag(values) @ right.T, left, right


@given(st.lists(st.floats(0.05, 1), min_size=1, max_size=6), st.sampled_from([1e-6, 1.0, 1e6]))
def test_singular_values_get_to_about_1_whatever_they_and_the_length_were(values: list[float], length: float):
    matrix, left, right = with_singular_values(values)
    found = left.T @ orthogonalized(jnp.asarray(length * matrix, jnp.float32)) @ right
    bound = np.linalg.norm(values, 4)
    assert (np.diag(found)[np.array(values) >= bound / 50] > 0.67).all()
    assert (np.diag(found) > 0).all()
    assert (np.diag(found) < 1.22).all()
    np.testing.assert_allclose(found, np.diag(np.diag(found)), atol=2e-3)


@SHAPES
def test_what_lies_across_is_taken_the_other_way_round(shape):
    matrix = jnp.asarray(drawn(shape))
    np.testing.assert_allclose(orthogonalized(matrix.T), orthogonalized(matrix).T, atol=1e-5)


@SHAPES
def test_zeros_stay_zeros(shape):
    assert not np.any(orthogonalized(jnp.zeros(shape)))


def test_it_is_the_iteration_as_it_is_usually_written():
    matrix = drawn((40, 12))
    expected = matrix.astype(np.float64) / np.sqrt(np.linalg.norm(matrix.T @ matrix))
    for _ in range(3):
        square = expected @ expected.T
        expected = 3.4445 * expected + (-4.7750 * square + 2.0315 * square @ square) @ expected
    np.testing.assert_allclose(orthogonalized(jnp.asarray(matrix)), expected, atol=1e-4)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_a_change_is_that_of_the_mean_gradient_a_step_ahead(momentum: float):
    muon, gradients = (
        scale_by_muon(momentum),
        [{"kernel": jnp.asarray(drawn((3, 3, 2, 4), i))} for i in (0, 1)],
    )

    @jax.jit
    def changes(first, second):
        state = muon.init(first)
        one, state = muon.update(first, state)
        return one, muon.update(second, state)[0]

    first, second = (np.asarray(each["kernel"]).reshape(18, 4) for each in gradients)
    one, two = (np.asarray(each["kernel"]).reshape(18, 4) for each in changes(*gradients))
    np.testing.assert_allclose(one, orthogonalized(jnp.asarray(first)), atol=1e-4)
    mean = momentum * (1 - momentum) * first + (1 - momentum) * second
    ahead = momentum * mean + (1 - momentum) * second
    np.testing.assert_allclose(two, orthogonalized(jnp.asarray(ahead)), atol=1e-4)
