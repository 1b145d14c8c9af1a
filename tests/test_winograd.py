import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdigits.rowwise import pixel_convolution, row_convolution
from jaxdigits.winograd import winograd_convolution

SIZES = [(3, 3), (5, 5), (7, 7), (3, 4), (12, 12), (14, 6), (9, 10)]  # of one tile and of several


def drawn(height, width, channels=(6, 7), batch=2):
    """Images [height, width, batch, inputs] and filters whose results have a deviation of about 1."""
    random = np.random.default_rng(height)
    x = random.standard_normal((height, width, batch, channels[0]))
    return x, random.standard_normal((3, 3, *channels)) / np.sqrt(9 * channels[0])


def exact(x, kernel):
    """The convolution by its definition, in the number format of its arguments."""
    rows, columns = x.shape[0] - 2, x.shape[1] - 2
    return sum(x[i : i + rows, j : j + columns] @ kernel[i, j] for i in range(3) for j in range(3))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_fewer_multiplications_give_the_same_convolution(height, width):
    x, kernel = drawn(height, width)
    found = jax.jit(winograd_convolution)(x.astype(np.float32), kernel.astype(np.float32))
    assert found.shape == (height - 2, width - 2, 2, 7)
    np.testing.assert_allclose(found, exact(x, kernel), rtol=0, atol=2e-5)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_and_the_same_gradients(height, width):
    x, kernel = (jnp.asarray(value, jnp.float32) for value in drawn(height, width))
    shape = (height - 2, width - 2, 2, 7)
    weights = jnp.asarray(np.random.default_rng(1).standard_normal(shape), jnp.float32)

    def gradients(convolution):
        total = jax.grad(lambda x, kernel: (weights * convolution(x, kernel)).sum(), (0, 1))
        return jax.jit(total)(x, kernel)

    for ours, plain in zip(gradients(winograd_convolution), gradients(exact), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=0, atol=2e-5 * float(jnp.abs(plain).max()))


def by_row(x, kernel):
    """The convolution of `rowwise` that is for such images, but from and to pixel by pixel."""
    x, far = x.transpose(0, 1, 3, 2), jnp.full(kernel.shape[-1], 8.0)  # no output is below -8
    if len(x) > 5:
        return row_convolution(x.swapaxes(1, 2), kernel, far, False).transpose(0, 2, 3, 1) - 8
    return pixel_convolution(x, kernel, far).swapaxes(2, 3) - 8


@pytest.mark.parametrize("convolution", [winograd_convolution, by_row])
@pytest.mark.parametrize(("side", "channels"), [(12, (16, 64)), (5, (64, 96))])  # those of `standard`
def test_rounding_costs_about_a_millionth(side, channels, convolution):
    x, kernel = drawn(side, side, channels, batch=32)
    found = jax.jit(convolution)(x.astype(np.float32), kernel.astype(np.float32))
    assert np.sqrt(np.mean((found - exact(x, kernel)) ** 2)) < 1.2e-6
