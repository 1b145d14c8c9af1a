import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdigits.model import build, max_pool, patches


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1), np.uint8))


@pytest.mark.parametrize(("channels", "classes"), [((3, 4), 10), ((4, 8, 6), 2)])
def test_the_two_forms_of_a_convolution_give_the_same_logits_and_gradients(images, channels, classes):
    by_patches, direct = (build(channels, 16, classes, form=form) for form in ("patches", "direct"))
    params = by_patches.init(jax.random.key(1))

    def total(network):
        return jax.value_and_grad(lambda params: (network.apply(params, images) ** 2).sum())(params)

    ours, theirs = total(by_patches), total(direct)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * float(jnp.abs(b).max()))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_are_float32_of_the_right_shape(images, dtype):
    network = build((4, 8), 16, 7, form="patches", dtype=dtype)
    logits = network.apply(network.init(jax.random.key(0)), images)
    assert logits.shape == (5, 7)
    assert logits.dtype == jnp.float32


def test_bfloat16_is_near_float32(images):
    exact, rounded = (build((4, 8), 16, 10, form="patches", dtype=d) for d in ("float32", "bfloat16"))
    params = exact.init(jax.random.key(0))
    a, b = exact.apply(params, images), rounded.apply(params, images)
    assert 0 < float(jnp.abs(a - b).max()) < 0.1 * float(jnp.abs(a).max())


def test_images_do_not_influence_each_other(images):
    network = build((4, 8, 8), 16, 10, form="patches")
    params = network.init(jax.random.key(0))
    together = network.apply(params, images)
    alone = jnp.concatenate([network.apply(params, image[None]) for image in images])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)


def test_initial_weights_follow_the_key():
    network = build((4, 8), 16, 10, form="patches")
    first, again, other = (network.init(jax.random.key(seed)) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert not np.array_equal(first["stem"]["kernel"], other["stem"]["kernel"])


@settings(deadline=None, max_examples=20)
@given(size=st.integers(1, 5), stride=st.integers(1, 3), height=st.integers(5, 9), width=st.integers(5, 9))
def test_patches_are_the_windows(size, stride, height, width):
    x = np.random.default_rng(size).normal(size=(2, height, width, 3)).astype(np.float32)
    found = np.asarray(patches(jnp.asarray(x), size, stride))
    for i in range(found.shape[1]):
        for j in range(found.shape[2]):
            window = x[:, i * stride : i * stride + size, j * stride : j * stride + size]
            np.testing.assert_array_equal(found[:, i, j], window.reshape(2, -1))


@pytest.mark.parametrize("side", [4, 5, 10, 11])
def test_max_pool_agrees_with_reduce_window(side):
    x = jnp.asarray(np.random.default_rng(side).normal(size=(2, side, side, 3)).astype(np.float32))
    expected = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    np.testing.assert_array_equal(max_pool(x), expected)
