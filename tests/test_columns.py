import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdigits.columns import blocks_by_channel, column_convolution, column_dense, columns
from jaxdigits.device import compiler_options
from jaxdigits.layers import space_to_depth

OPTIONS = compiler_options("cpu")


def drawn(*shape, dtype=jnp.float32):
    """Numbers of a deviation of 1 that every number format has, so that products of them are exact."""
    return jnp.asarray(np.random.default_rng(len(shape)).integers(-2, 3, shape), dtype)


@functools.partial(jax.jit, static_argnums=3)
def exact(x, kernel, bias, pooled):
    """The layer by its definition, in float32, of images [channels, height, width, batch]."""
    x = x.astype(jnp.float32).transpose(3, 1, 2, 0)
    y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    if pooled:
        y = jax.lax.reduce_window(y, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return jax.nn.relu(y + bias).transpose(3, 1, 2, 0)


@pytest.mark.parametrize("size", [2, 3])
def test_columns_are_the_windows(size):
    x = np.random.default_rng(0).normal(size=(3, 5, 7, 2)).astype(np.float32)
    rows, across = 6 - size, 8 - size
    found = np.asarray(columns(jnp.asarray(x), size))
    found = found.reshape(size, size, 3, rows, across, 2)  # row, column, channel; place, image
    for i in range(rows):
        for j in range(across):
            window = x[:, i : i + size, j : j + size].transpose(1, 2, 0, 3)
            np.testing.assert_array_equal(found[:, :, :, i, j], window)


def test_blocks_are_those_of_images_that_come_one_by_one():
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1)), jnp.float32)
    found = blocks_by_channel(images).transpose(3, 1, 2, 0)
    np.testing.assert_array_equal(found, space_to_depth(images))


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("sizes", [(4, 5, 8, 3), (1, 6, 2, 1), (8, 4, 1, 5), (16, 12, 64, 32)])
def test_a_layer_is_what_its_definition_says(sizes, dtype, pooled):
    inputs, side, batch, outputs = sizes
    x, kernel, bias = (
        drawn(inputs, side, side, batch, dtype=dtype),
        drawn(3, 3, inputs, outputs),
        drawn(outputs),
    )
    layer = jax.jit(column_convolution, static_argnums=3, compiler_options=OPTIONS)
    found = layer(x, kernel, bias, pooled)
    assert found.dtype == dtype
    expected = exact(x, kernel, bias, pooled).astype(dtype)  # of whole numbers, whose sums are exact too
    np.testing.assert_array_equal(found.astype(jnp.float32), expected.astype(jnp.float32))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("sizes", [(4, 5, 8, 3), (1, 6, 2, 1), (8, 4, 1, 5), (16, 12, 64, 32)])
def test_and_so_are_its_gradients(sizes, dtype):
    inputs, side, batch, outputs = sizes
    x, kernel, bias = (
        drawn(inputs, side, side, batch, dtype=dtype),
        drawn(3, 3, inputs, outputs),
        drawn(outputs),
    )
    weights = drawn(outputs, side - 2, side - 2, batch)

    def gradients(layer):
        def total(x, kernel, bias):
            return (weights * layer(x, kernel, bias, False).astype(jnp.float32)).sum()

        return jax.jit(jax.grad(total, (0, 1, 2)), compiler_options=OPTIONS)(x, kernel, bias)

    for ours, plain in zip(gradients(column_convolution), gradients(exact), strict=True):
        assert ours.dtype == plain.dtype
        assert np.any(plain)
        np.testing.assert_array_equal(ours.astype(jnp.float32), plain.astype(jnp.float32))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("batch", "outputs"), [(8, 16), (1, 16), (8, 1), (64, 128)])
def test_a_dense_layer_is_a_product_and_has_its_gradients(batch, outputs, dtype):
    x, kernel = drawn(4, 3, 3, batch, dtype=dtype), drawn(36, outputs)
    weights = drawn(outputs, batch)

    def plain(x, kernel):
        return kernel.T @ x.astype(jnp.float32).transpose(1, 2, 0, 3).reshape(36, batch)

    def gradients(layer):
        total = jax.value_and_grad(lambda x, kernel: (weights * layer(x, kernel)).sum(), (0, 1))
        return jax.tree.leaves(jax.jit(total, compiler_options=OPTIONS)(x, kernel))

    np.testing.assert_array_equal(column_dense(x, kernel), plain(x, kernel))
    for ours, expected in zip(gradients(column_dense), gradients(plain), strict=True):
        assert ours.dtype == expected.dtype
        np.testing.assert_array_equal(ours.astype(jnp.float32), expected.astype(jnp.float32))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_cpu_computes_what_its_windows_are_cut_from_once(dtype):
    x = jax.ShapeDtypeStruct((16, 12, 12, 12), dtype)
    kernel, bias = jax.ShapeDtypeStruct((3, 3, 16, 16), "f4"), jax.ShapeDtypeStruct((16,), "f4")

    def two(x, kernel, bias):
        return column_convolution(column_convolution(x, kernel, bias, False), kernel, bias, False)

    program = jax.jit(two, compiler_options=OPTIONS).lower(x, kernel, bias).compile()
    assert (program.as_text() or "").count(" maximum(") == 2  # the ReLU of each
