import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdigits.augment import random_affine

STILL = {"max_shift": 0.0, "max_scale": 0.0, "max_shear": 0.0}


@pytest.fixture(scope="module")
def images(mnist):
    return jnp.asarray(mnist.test.images[:64])


def centres(images):
    """The centre of mass of each image, [n, 2] as row and column."""
    mass = np.asarray(images, np.float64)[..., 0]
    at = np.arange(28)
    total = mass.sum((1, 2))
    return np.stack([(mass.sum(2) * at).sum(1) / total, (mass.sum(1) * at).sum(1) / total], 1)


@pytest.mark.parametrize("shear", [0.0, 1e-9])
def test_nothing_happens_where_nothing_may(images, shear):
    same = random_affine(jax.random.key(0), images, **(STILL | {"max_shear": shear}))
    np.testing.assert_allclose(same, images, atol=1e-3)


@pytest.mark.parametrize("limits", [(2, 0, 0), (0, 0.2, 0), (0, 0, 0.2), (2, 0.1, 0.15)])
def test_pixels_keep_their_range_and_the_key_decides(images, limits):
    limits = dict(zip(STILL, map(float, limits), strict=True))
    first, again, other = (random_affine(jax.random.key(seed), images, **limits) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == images.shape
    assert first.dtype == jnp.float32
    assert float(first.min()) >= 0
    assert float(first.max()) <= 255 + 1e-3


@pytest.mark.parametrize("shear", [0.0, 1e-9])
def test_shifts_reach_their_limit_and_no_further(shear):
    many = jnp.zeros((2000, 28, 28, 1), jnp.uint8).at[:, 8:17, 9:21].set(200)
    moved = random_affine(jax.random.key(0), many, **(STILL | {"max_shift": 2.0, "max_shear": shear}))
    away = centres(moved) - centres(many)
    assert np.abs(away).max() <= 2 + 1e-4
    assert np.abs(away).max(axis=0).min() > 1.95
    assert np.abs(away.mean(axis=0)).max() < 0.1


def test_scaling_and_shearing_leave_the_middle_where_it_is():
    dot = np.zeros((500, 28, 28, 1), np.uint8)
    dot[:, 13:15, 13:15] = 255
    moved = random_affine(jax.random.key(0), jnp.asarray(dot), max_shift=0.0, max_scale=0.2, max_shear=0.2)
    np.testing.assert_allclose(centres(moved), 13.5, atol=1e-3)


def test_a_shear_turns_an_upright_stroke_by_its_angle():
    stroke = np.zeros((2000, 28, 28, 1), np.uint8)
    stroke[:, 6:22, 13:15] = 255
    moved = random_affine(jax.random.key(0), jnp.asarray(stroke), **(STILL | {"max_shear": 0.2}))
    rows = np.asarray(moved)[..., 0]
    columns = (rows * np.arange(28)).sum(2) / np.maximum(rows.sum(2), 1e-6)
    slope = (columns[:, 18] - columns[:, 9]) / 9
    assert 0.15 < np.abs(slope).max() < 0.25
    assert abs(slope.mean()) < 0.02
