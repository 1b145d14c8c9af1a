import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdigits.blocks import block_convolution, block_kernel, block_max_pool, blocks_of_blocks
from jaxdigits.columns import blocks_by_channel, column_convolution
from jaxdigits.device import compiler_options

OPTIONS = compiler_options("cpu")
SIZES = pytest.mark.parametrize("sizes", [(4, 6, 8, 3), (1, 4, 2, 1), (3, 8, 1, 5), (16, 12, 64, 32)])
NUMBERS = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])


def drawn(*shape, dtype=jnp.float32):
    """Numbers of a deviation of 1 that every number format has, so that products of them are exact."""
    return jnp.asarray(np.random.default_rng(len(shape)).integers(-2, 3, shape), dtype)


def in_blocks(x):
    """Images [channels, height, width, batch] as blocks."""
    channels, height, width, batch = x.shape
    x = x.reshape(channels, height // 2, 2, width // 2, 2, batch).transpose(2, 4, 0, 1, 3, 5)
    return x.reshape(4 * channels, height // 2, width // 2, batch)


def arguments(sizes, dtype):
    """Images, filters and biases of a layer of these sizes."""
    inputs, side, batch, outputs = sizes
    x, kernel = drawn(inputs, side, side, batch, dtype=dtype), drawn(3, 3, inputs, outputs)
    return x, kernel, drawn(outputs)


def compiled(layer, pooled):
    return jax.jit(lambda *given: layer(*given, pooled), compiler_options=OPTIONS)


def test_blocks_of_blocks_are_blocks_twice():
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1)), jnp.float32)
    np.testing.assert_array_equal(blocks_of_blocks(images), in_blocks(blocks_by_channel(images)))


def test_filters_of_blocks_are_the_filters_and_zeros():
    kernel = drawn(3, 3, 2, 5) + 10
    found = np.asarray(block_kernel(kernel))
    assert found.shape == (2, 2, 8, 20)
    assert (found != 0).sum() == 4 * kernel.size
    assert found.sum() == 4 * kernel.sum()


@pytest.mark.parametrize("pooled", [False, True])
@NUMBERS
@SIZES
def test_a_layer_is_that_of_pixels(sizes, dtype, pooled):
    x, kernel, bias = arguments(sizes, dtype)
    found = compiled(block_convolution, pooled)(in_blocks(x), kernel, bias)
    expected = compiled(column_convolution, pooled)(x, kernel, bias)
    assert found.dtype == expected.dtype == dtype
    assert np.any(expected)
    expected = expected if pooled else in_blocks(expected)
    np.testing.assert_array_equal(found.astype(jnp.float32), expected.astype(jnp.float32))


@pytest.mark.parametrize("pooled", [False, True])
@NUMBERS
@SIZES
def test_and_so_are_its_gradients(sizes, dtype, pooled):
    _, side, batch, outputs = sizes
    (x, kernel, bias), after = arguments(sizes, dtype), side - 2
    # Twelve, so that what up to four pixels share stays whole.
    weights = 12 * drawn(outputs, after // (1 + pooled), after // (1 + pooled), batch)

    def gradients(layer, arrange, of_result):
        def total(x, kernel, bias):
            found = layer(arrange(x), kernel, bias, pooled).astype(jnp.float32)
            return (of_result(weights) * found).sum()

        return jax.jit(jax.grad(total, (0, 1, 2)), compiler_options=OPTIONS)(x, kernel, bias)

    def same(x):
        return x

    ours = gradients(block_convolution, in_blocks, same if pooled else in_blocks)
    for found, expected in zip(ours, gradients(column_convolution, same, same), strict=True):
        assert found.dtype == expected.dtype
        assert np.any(expected)
        np.testing.assert_array_equal(found.astype(jnp.float32), expected.astype(jnp.float32))


def test_pixels_that_are_the_maximum_share_its_gradient():
    y = jnp.asarray([[3.0, 1.0, 5.0], [3.0, 2.0, 5.0], [0.0, 2.0, 5.0], [1.0, 0.0, 5.0]]).reshape(
        4, 3, 1, 1, 1
    )
    value, back = jax.vjp(block_max_pool, y)
    np.testing.assert_array_equal(value.ravel(), [3, 2, 5])
    (shares,) = back(jnp.full_like(value, 4))
    np.testing.assert_array_equal(shares.reshape(4, 3), [[2, 0, 1], [2, 2, 1], [0, 2, 1], [0, 0, 1]])
