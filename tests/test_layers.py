import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdigits.device import compiler_options
from jaxdigits.layers import max_pool, patch_convolution, patches, space_to_depth

BATCH_FIRST = pytest.mark.parametrize("batch_first", [True, False])


def pixels_first(x):
    """[batch, height, width, channels] as [height, width, batch, channels]."""
    return x.transpose(1, 2, 0, 3)


def pooled(x, batch_first):
    """The maxima of [batch, height, width, channels], taken in this order or in the other."""
    return jax.vmap(max_pool)(x) if batch_first else max_pool(pixels_first(x)).transpose(2, 0, 1, 3)


@BATCH_FIRST
def test_a_cpu_computes_what_its_windows_are_cut_from_once(batch_first):
    x = jax.ShapeDtypeStruct((12, 12, 12, 16), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 16, 4), jnp.float32)

    def behind_relu(x, kernel):
        return patch_convolution(jnp.maximum(x, 0), kernel, batch_first)

    program = jax.jit(behind_relu, compiler_options=compiler_options("cpu")).lower(x, kernel).compile()
    assert (program.as_text() or "").count(" maximum(") == 1


def test_patches_are_the_windows():
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32)
    found = np.asarray(jax.vmap(patches)(jnp.asarray(x)))
    np.testing.assert_array_equal(pixels_first(found), patches(pixels_first(jnp.asarray(x))))
    assert found.shape == (2, 3, 5, 27)
    for i in range(3):
        for j in range(5):
            np.testing.assert_array_equal(found[:, i, j], x[:, i : i + 3, j : j + 3].reshape(2, -1))


def test_space_to_depth_keeps_blocks_together():
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1), np.uint8))
    found = np.asarray(space_to_depth(images))
    np.testing.assert_array_equal(found[:, 3, 5], images[:, 6:8, 10:12, 0].reshape(-1, 4))


@BATCH_FIRST
@pytest.mark.parametrize("side", [4, 5, 10, 11])
def test_max_pool_agrees_with_reduce_window(side, batch_first):
    x = jnp.asarray(np.random.default_rng(side).normal(size=(2, side, side, 3)).astype(np.float32))
    expected = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    np.testing.assert_array_equal(pooled(x, batch_first), expected)


@BATCH_FIRST
@pytest.mark.parametrize("side", [4, 5])
def test_max_pool_shares_the_gradient_evenly_where_pixels_are_equal(side, batch_first):
    x = jnp.asarray(np.random.default_rng(0).integers(0, 3, (4, side, side, 3)).astype(np.float32))
    rows = side // 2

    def plain(x):
        windows = x[:, : 2 * rows, : 2 * rows].reshape(4, rows, 2, rows, 2, 3)
        return windows.max(axis=(2, 4))  # whose gradient JAX shares evenly

    weights = jnp.arange(4.0 * rows * rows * 3).reshape(4, rows, rows, 3)
    ours = jax.grad(lambda x: (weights * pooled(x, batch_first)).sum())(x)
    expected = jax.grad(lambda x: (weights * plain(x)).sum())(x)
    np.testing.assert_allclose(ours, expected, rtol=1e-6)
