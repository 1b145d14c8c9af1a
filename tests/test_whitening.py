"""What the whitened filters make of the patches of real digits, and of images that have nothing to whiten."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdigits import dataset
from jaxdigits.layers import space_to_depth
from jaxdigits.network import MEAN, STD
from jaxdigits.whitening import whitened_filters

OUTPUTS = (1, 2, 3, 7, 16, 71, 72, 73, 100, 150)


@pytest.fixture(scope="module")
def digits(mnist: dataset.Dataset) -> np.ndarray:
    """In no order of their writers, of whom the files have one half before the other."""
    return np.random.default_rng(0).permutation(mnist.train.images)


@pytest.fixture(scope="module")
def seen(digits: np.ndarray) -> np.ndarray:
    """So few images that all of their windows are used."""
    return digits[:100]


@pytest.fixture(scope="module")
def filters(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One filter for each component of `seen`, in both signs."""
    return whitened_filters(seen, 72)


def responses(images: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """What the first convolution makes of images, before the ReLU: float64 [windows, outputs]."""
    x = space_to_depth((jnp.asarray(images, jnp.float32) / 255 - MEAN) / STD)
    weights = jnp.asarray(kernel)
    y = jax.lax.conv_general_dilated(x, weights, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return np.asarray(y + bias, np.float64).reshape(-1, kernel.shape[-1])


def covariance(images: np.ndarray, filters: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """That of the responses of the components, [36, 36]: the second half only has the other sign."""
    return np.cov(responses(images, *filters)[:, :36], rowvar=False)


# On the images that they were computed from.


def test_the_responses_are_centred(seen: np.ndarray, filters: tuple[np.ndarray, np.ndarray]):
    assert np.abs(responses(seen, *filters).mean(axis=0)).max() < 0.01


def test_the_responses_are_uncorrelated(seen: np.ndarray, filters: tuple[np.ndarray, np.ndarray]):
    found = covariance(seen, filters)
    assert np.abs(found - np.diag(np.diag(found))).max() < 0.01


def test_the_variance_of_each_response_is_one_but_for_the_floor(
    seen: np.ndarray, filters: tuple[np.ndarray, np.ndarray]
):
    variances = np.diag(covariance(seen, filters))
    np.testing.assert_allclose(variances[:8], 1, atol=0.02)
    # A filter that spreads noise of variance 0.01 as it spreads the patches has a variance of 1 in all.
    noise = 0.01 * (filters[0][..., :36].astype(np.float64) ** 2).sum(axis=(0, 1, 2))
    np.testing.assert_allclose(variances + noise, 1, atol=0.01)


def test_the_components_come_in_the_order_of_what_they_explain(
    seen: np.ndarray, filters: tuple[np.ndarray, np.ndarray]
):
    directions = filters[0].reshape(36, 72)[:, :36].astype(np.float64)
    lengths = np.linalg.norm(directions, axis=0)
    np.testing.assert_allclose((directions / lengths).T @ (directions / lengths), np.eye(36), atol=1e-5)
    explained = np.diag(covariance(seen, filters)) / lengths**2
    assert (np.diff(explained) <= 1e-3 * explained[:-1]).all()
    assert explained[0] > 10 * explained[8]


# On others.


def test_other_digits_are_whitened_too(digits: np.ndarray):
    found = covariance(digits[1::30], whitened_filters(digits[::30], 72))[:16, :16]
    assert np.abs(found - np.eye(16)).max() < 0.2


def test_of_many_images_some_two_thousand_are_used_evenly_spaced(digits: np.ndarray):
    many = np.ascontiguousarray(digits[:7000])
    expected = whitened_filters(many[::3], 16)
    blackened = many.copy()
    blackened[np.arange(7000) % 3 > 0] = 0
    for images in (many, blackened):
        for ours, theirs in zip(whitened_filters(images, 16), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


# How many there are, and in which order.


@pytest.mark.parametrize("outputs", OUTPUTS)
def test_filters_come_in_pairs_of_both_signs(
    seen: np.ndarray, filters: tuple[np.ndarray, np.ndarray], outputs: int
):
    kernel, bias = whitened_filters(seen, outputs)
    assert (kernel.shape, kernel.dtype) == ((3, 3, 4, outputs), np.float32)
    assert (bias.shape, bias.dtype) == ((outputs,), np.float32)
    pairs = (outputs + 1) // 2
    components = np.arange(pairs) % 36
    np.testing.assert_array_equal(kernel[..., :pairs], filters[0][..., components])
    np.testing.assert_array_equal(kernel[..., pairs:], -kernel[..., : outputs - pairs])
    np.testing.assert_allclose(bias[:pairs], filters[1][components], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(bias[pairs:], -bias[: outputs - pairs], rtol=1e-4, atol=1e-4)


def test_the_same_images_give_the_same_filters_and_are_left_alone(seen: np.ndarray):
    images = seen.copy()
    first, again = whitened_filters(images, 16), whitened_filters(images, 16)
    for ours, theirs in zip(first, again, strict=True):
        assert ours.tobytes() == theirs.tobytes()
    np.testing.assert_array_equal(images, seen)


# Images with nothing to whiten.


@pytest.mark.parametrize("n", [1, 3, 2000])
@pytest.mark.parametrize("grey", [0, 33, 255])
def test_images_of_one_grey_give_finite_filters_without_a_response(grey: int, n: int):
    images = np.full((n, 28, 28, 1), grey, np.uint8)
    kernel, bias = whitened_filters(images, 72)
    assert np.isfinite(kernel).all()
    assert np.abs(responses(images, kernel, bias)).max() < 0.01


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 4),
    rank=st.integers(0, 2),
    outputs=st.sampled_from(OUTPUTS),
)
def test_a_few_images_give_finite_filters(seed: int, n: int, rank: int, outputs: int):
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (n, 28, 28, 1), np.uint8)
    if rank < 2:  # stripes of one pixel, or of two: few of the 36 components vary, or none
        images[:] = np.arange(28).reshape(28, 1, 1) // (1 + rank) % 2 * 255
    kernel, bias = whitened_filters(images, outputs)
    assert np.isfinite(kernel).all()
    assert np.isfinite(bias).all()
    found = responses(images, kernel, bias)
    assert np.abs(found.mean(axis=0)).max() < 0.01
    assert found.var(axis=0).max() < 1.01
