import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdigits.model import build, max_pool, patches, space_to_depth


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1), np.uint8))


@pytest.mark.parametrize(("channels", "classes"), [((3, 4), 10), ((4, 8, 6), 2)])
def test_the_two_forms_of_a_convolution_give_the_same_logits_and_gradients(images, channels, classes):
    by_patches, direct = (build(channels, 16, classes, form=form) for form in ("patches", "direct"))
    params = by_patches.init(1)

    def total(network):
        return jax.value_and_grad(lambda params: (network.apply(params, images) ** 2).sum())(params)

    ours, theirs = total(by_patches), total(direct)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * float(jnp.abs(b).max()))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_are_float32_of_the_right_shape(images, dtype):
    network = build((4, 8), 16, 7, form="patches", dtype=dtype)
    logits = network.apply(network.init(0), images)
    assert logits.shape == (5, 7)
    assert logits.dtype == jnp.float32


def test_bfloat16_is_near_float32(images):
    exact, rounded = (build((4, 8), 16, 10, form="patches", dtype=d) for d in ("float32", "bfloat16"))
    params = exact.init(0)
    a, b = exact.apply(params, images), rounded.apply(params, images)
    assert 0 < float(jnp.abs(a - b).max()) < 0.1 * float(jnp.abs(a).max())


def test_images_do_not_influence_each_other(images):
    network = build((4, 8, 8), 16, 10, form="patches")
    params = network.init(0)
    together = network.apply(params, images)
    alone = jnp.concatenate([network.apply(params, image[None]) for image in images])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)


def test_initial_weights_follow_the_seed():
    network = build((4, 8), 16, 10, form="patches")
    first, again, other = (network.init(seed) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert not np.array_equal(first["convs"][0]["kernel"], other["convs"][0]["kernel"])


def test_patches_are_the_windows():
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32)
    found = np.asarray(patches(jnp.asarray(x)))
    assert found.shape == (2, 3, 5, 27)
    for i in range(3):
        for j in range(5):
            np.testing.assert_array_equal(found[:, i, j], x[:, i : i + 3, j : j + 3].reshape(2, -1))


def test_space_to_depth_keeps_blocks_together(images):
    found = np.asarray(space_to_depth(images))
    np.testing.assert_array_equal(found[:, 3, 5], images[:, 6:8, 10:12, 0].reshape(-1, 4))


@pytest.mark.parametrize("side", [4, 5, 10, 11])
def test_max_pool_agrees_with_reduce_window(side):
    x = jnp.asarray(np.random.default_rng(side).normal(size=(2, side, side, 3)).astype(np.float32))
    expected = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    np.testing.assert_array_equal(max_pool(x), expected)
