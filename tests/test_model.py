from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdigits.model import build
from jaxdigits.network import Form, Network, Params
from jaxdigits.network_forms import FORMS

OTHERS = [form for form in FORMS if form != "direct"]


def test_every_form_has_its_layers():
    assert set(FORMS) == set(get_args(Form))


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


def total(network: Network, params: Params, images: jax.Array) -> list[jax.Array]:
    """The sum of the squares of the logits, and its gradients."""
    squares = jax.value_and_grad(lambda params: (network.apply(params, images) ** 2).sum())
    return jax.tree.leaves(jax.jit(squares)(params))


@pytest.mark.parametrize("form", OTHERS)
@pytest.mark.parametrize(("channels", "classes"), [((3, 4), 10), ((4, 8, 6), 2), ((16, 9, 8, 5), 3)])
def test_all_forms_of_a_convolution_give_the_same_logits_and_gradients(images, channels, classes, form):
    ours, direct = (build(channels, 16, classes, form=form) for form in (form, "direct"))
    params = drawn(direct, 1)

    for a, b in zip(total(ours, params, images), total(direct, params, images), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * float(jnp.abs(b).max()))


@pytest.mark.parametrize("form", OTHERS)
@pytest.mark.parametrize(
    "channels", [(3, 4), (16, 24), (32, 20, 8)]
)  # of which some are multiplied otherwise
def test_logits_differ_by_rounding_alone(images, channels, form):
    ours, direct = (build(channels, 16, 10, form=form) for form in (form, "direct"))
    params = drawn(direct, 1)
    expected = jax.jit(direct.apply)(params, images)
    np.testing.assert_allclose(
        jax.jit(ours.apply)(params, images), expected, rtol=0, atol=1e-5 * float(jnp.abs(expected).max())
    )


@pytest.mark.parametrize("form", [*OTHERS, "direct"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_are_float32_of_the_right_shape(images, dtype, form):
    network = build((8, 4), 16, 7, form=form, dtype=dtype)
    logits = jax.jit(network.apply)(drawn(network, 0), images)
    assert logits.shape == (5, 7)
    assert logits.dtype == jnp.float32


@pytest.mark.parametrize("form", OTHERS)
def test_bfloat16_is_near_float32(images, form):
    exact, rounded = (build((8, 8), 16, 10, form=form, dtype=d) for d in ("float32", "bfloat16"))
    params = drawn(exact, 0)
    a, b = (jax.jit(network.apply)(params, images) for network in (exact, rounded))
    assert 0 < float(jnp.abs(a - b).max()) < 0.1 * float(jnp.abs(a).max())


@pytest.mark.parametrize("form", OTHERS)
def test_images_do_not_influence_each_other(images, form):
    network = build((8, 8, 8), 16, 10, form=form)
    params, apply = drawn(network, 0), jax.jit(network.apply)
    together = apply(params, images)
    assert not np.allclose(together[0], together[1], rtol=1e-2)
    alone = jnp.concatenate([apply(params, image[None]) for image in images])
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


@pytest.mark.parametrize("form", [*OTHERS, "direct"])
@pytest.mark.parametrize("channels", [(3, 4), (8, 8, 6)])
def test_a_fixed_first_convolution_has_no_gradient_and_the_others_keep_theirs(images, channels, form):
    fixed, trained = (build(channels, 16, 10, form=form, fixed_stem=fixed) for fixed in (True, False))
    params = drawn(fixed, 2)

    def gradients(network):
        total = jax.value_and_grad(lambda params: (network.apply(params, images) ** 2).sum())
        return jax.jit(total)(params)

    (value, without), (same, expected) = gradients(fixed), gradients(trained)
    np.testing.assert_allclose(value, same, rtol=1e-6)
    for leaf in jax.tree.leaves(without["convs"].pop(0)):
        assert not np.any(leaf)
    for leaf in jax.tree.leaves(expected["convs"].pop(0)):
        assert np.any(leaf)
    for a, b in zip(jax.tree.leaves(without), jax.tree.leaves(expected), strict=True):
        assert np.any(a)
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * float(jnp.abs(b).max()))
