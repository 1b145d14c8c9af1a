import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdigits.device import compiler_options
from jaxdigits.model import build, max_pool, patches, space_to_depth
from jaxdigits.network import Network, Params
from jaxdigits.winograd import winograd_convolution


def drawn(network: Network, seed: int) -> Params:
    """Parameters none of which is 0, as if trained: fresh ones have logits and most gradients of 0."""
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: (random.standard_normal(leaf.shape) / np.sqrt(leaf.size / leaf.shape[-1])).astype("f4"),
        network.shapes,
    )


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1), np.uint8))


@pytest.mark.parametrize(("channels", "classes"), [((3, 4), 10), ((4, 8, 6), 2)])
def test_the_two_forms_of_a_convolution_give_the_same_logits_and_gradients(images, channels, classes):
    by_patches, direct = (build(channels, 16, classes, form=form) for form in ("patches", "direct"))
    params = drawn(by_patches, 1)

    def total(network):
        return jax.value_and_grad(lambda params: (network.apply(params, images) ** 2).sum())(params)

    ours, theirs = total(by_patches), total(direct)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * float(jnp.abs(b).max()))


def test_a_cpu_computes_what_its_windows_are_cut_from_once():
    x = jax.ShapeDtypeStruct((2, 12, 12, 16), jnp.float32)
    cut = jax.jit(lambda x: patches(jnp.maximum(x, 0)), compiler_options=compiler_options("cpu"))
    assert (cut.lower(x).compile().as_text() or "").count(" maximum(") == 1


@pytest.mark.parametrize(
    "channels", [(3, 4), (16, 24), (32, 20, 8)]
)  # of which some are multiplied otherwise
def test_the_form_for_reading_gives_the_same_logits(images, channels):
    reading, direct = (build(channels, 16, 10, form=form) for form in ("winograd", "direct"))
    params = drawn(direct, 1)
    expected = direct.apply(params, images)
    np.testing.assert_allclose(
        reading.apply(params, images), expected, rtol=0, atol=1e-5 * float(jnp.abs(expected).max())
    )


@pytest.mark.parametrize(("height", "width"), [(3, 4), (12, 12), (7, 10)])
def test_fewer_multiplications_give_the_same_convolution(height, width):
    random = np.random.default_rng(0)
    x = jnp.asarray(random.standard_normal((2, height, width, 5), np.float32))
    kernel = jnp.asarray(random.standard_normal((3, 3, 5, 7), np.float32))
    layout = ("NHWC", "HWIO", "NHWC")
    expected = jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=layout)
    np.testing.assert_allclose(winograd_convolution(x, kernel), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_are_float32_of_the_right_shape(images, dtype):
    network = build((4, 8), 16, 7, form="patches", dtype=dtype)
    logits = network.apply(drawn(network, 0), images)
    assert logits.shape == (5, 7)
    assert logits.dtype == jnp.float32


def test_bfloat16_is_near_float32(images):
    exact, rounded = (build((4, 8), 16, 10, form="patches", dtype=d) for d in ("float32", "bfloat16"))
    params = drawn(exact, 0)
    a, b = exact.apply(params, images), rounded.apply(params, images)
    assert 0 < float(jnp.abs(a - b).max()) < 0.1 * float(jnp.abs(a).max())


def test_images_do_not_influence_each_other(images):
    network = build((4, 8, 8), 16, 10, form="patches")
    params = drawn(network, 0)
    together = network.apply(params, images)
    assert not np.allclose(together[0], together[1], rtol=1e-2)
    alone = jnp.concatenate([network.apply(params, image[None]) for image in images])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)


def test_initial_weights_follow_the_seed():
    network = build((4, 8), 16, 10, form="patches")
    first, again, other = (network.init(seed) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert not np.array_equal(first["convs"][0]["kernel"], other["convs"][0]["kernel"])


def test_initial_weights_have_the_scale_of_their_layer():
    params = build((64, 96, 128), 256, 10, form="patches").init(3)
    for kernel, gain in (
        *((params["convs"][index]["kernel"], gain) for index, gain in enumerate((1, 0.25, 0.25))),
        (params["hidden"]["kernel"], 1),
    ):
        fan_in = np.prod(kernel.shape[:-1])
        assert np.std(kernel) == pytest.approx(gain * np.sqrt(2 / fan_in), rel=0.05)
        assert abs(np.mean(kernel)) < 0.1 * np.std(kernel)
    for layer in (*params["convs"].values(), params["hidden"], params["output"]):
        assert not np.any(layer["bias"])
    assert not np.any(params["output"]["kernel"])


@pytest.mark.parametrize("classes", [2, 10])
def test_a_fresh_network_prefers_no_class(images, classes):
    network = build((4, 8), 16, classes, form="patches")
    np.testing.assert_array_equal(network.apply(network.init(0), images), np.zeros((5, classes)))


def test_a_given_first_convolution_replaces_the_drawn_one_and_nothing_else():
    network = build((4, 8), 16, 10, form="patches")
    kernel = np.arange(144, dtype=np.float32).reshape(3, 3, 4, 4)
    bias = np.arange(4, dtype=np.float32)
    given, plain = network.init(5, (kernel, bias)), network.init(5)
    assert jax.tree.structure(given) == jax.tree.structure(plain) == jax.tree.structure(network.shapes)
    np.testing.assert_array_equal(given["convs"][0]["kernel"], kernel)
    np.testing.assert_array_equal(given["convs"][0]["bias"], bias)
    plain["convs"][0] = given["convs"][0]
    jax.tree.map(np.testing.assert_array_equal, given, plain)


@pytest.mark.parametrize("form", ["patches", "direct"])
@pytest.mark.parametrize("channels", [(3, 4), (4, 8, 6)])
def test_a_fixed_first_convolution_has_no_gradient_and_the_others_keep_theirs(images, channels, form):
    fixed, trained = (build(channels, 16, 10, form=form, fixed_stem=fixed) for fixed in (True, False))
    params = drawn(fixed, 2)
    np.testing.assert_array_equal(fixed.apply(params, images), trained.apply(params, images))

    def gradients(network):
        return jax.grad(lambda params: (network.apply(params, images) ** 2).sum())(params)

    without, expected = gradients(fixed), gradients(trained)
    for leaf in jax.tree.leaves(without["convs"].pop(0)):
        assert not np.any(leaf)
    for leaf in jax.tree.leaves(expected["convs"].pop(0)):
        assert np.any(leaf)
    for a, b in zip(jax.tree.leaves(without), jax.tree.leaves(expected), strict=True):
        assert np.any(a)
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * float(jnp.abs(b).max()))


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


@pytest.mark.parametrize("side", [4, 5])
def test_max_pool_shares_the_gradient_evenly_where_pixels_are_equal(side):
    x = jnp.asarray(np.random.default_rng(0).integers(0, 3, (4, side, side, 3)).astype(np.float32))
    rows = side // 2

    def plain(x):
        windows = x[:, : 2 * rows, : 2 * rows].reshape(4, rows, 2, rows, 2, 3)
        return windows.max(axis=(2, 4))  # whose gradient JAX shares evenly

    weights = jnp.arange(4.0 * rows * rows * 3).reshape(4, rows, rows, 3)
    ours, expected = (
        jax.grad(lambda x, pool=pool: (weights * pool(x)).sum())(x) for pool in (max_pool, plain)
    )
    np.testing.assert_allclose(ours, expected, rtol=1e-6)
