import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdigits.evaluate import Evaluation, Evaluator, wilson_interval
from jaxdigits.model import build

NETWORK = build((2, 3), 8, 10, form="patches")
PARAMS = NETWORK.init(0)
IMAGES = np.random.default_rng(0).integers(0, 256, (70, 28, 28, 1), np.uint8)
EXPECTED = np.asarray(jax.jit(NETWORK.apply)(PARAMS, IMAGES))
LABELS = np.random.default_rng(1).integers(0, 10, 70).astype(np.uint8)


@pytest.fixture(scope="module")
def evaluators():
    return {
        size: Evaluator(NETWORK, PARAMS, batch_size=size, portion=portion)
        for size, portion in ((1, 1), (7, 7), (64, 16), (100, 50))
    }


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 70), size=st.sampled_from([1, 7, 64, 100]))
def test_every_image_counts_once_whatever_the_batch_size(evaluators, n, size):
    found = evaluators[size](PARAMS, IMAGES[:n], LABELS[:n])
    np.testing.assert_allclose(found.logits, EXPECTED[:n], rtol=1e-4, atol=1e-4)
    assert found.total == n
    assert found.confusion.sum() == n
    assert np.trace(found.confusion) == found.correct
    np.testing.assert_array_equal(found.confusion.sum(axis=1), np.bincount(LABELS[:n], minlength=10))


def test_figures_of_known_logits():
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], [0.5, 0.4, 0.1]], np.float32))
    found = Evaluation(logits + 3, np.array([0, 2, 1], np.uint8))
    assert (found.correct, found.total) == (2, 3)
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.loss == pytest.approx(-np.log([0.7, 0.7, 0.4]).mean(), rel=1e-6)
    np.testing.assert_array_equal(found.confusion, [[1, 0, 0], [1, 0, 0], [0, 0, 1]])


@given(total=st.integers(1, 100_000), share=st.floats(0, 1))
def test_wilson_interval_holds_the_share(total, share):
    correct = round(share * total)
    low, high = wilson_interval(correct, total)
    assert 0 <= low <= high <= 1
    assert low - 1e-12 <= correct / total <= high + 1e-12
    wider = wilson_interval(correct * 4, total * 4)
    assert wider[1] - wider[0] < high - low
