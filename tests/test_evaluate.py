import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdigits.evaluate import (
    Evaluation,
    Evaluator,
    average_views,
    fit_temperature,
    shift,
    views_of,
    wilson_interval,
)
from jaxdigits.model import build

from .test_model import drawn

NETWORK = build((2, 3), 8, 10, form="patches")
PARAMS = drawn(NETWORK, 0)
IMAGES = np.random.default_rng(0).integers(0, 256, (70, 28, 28, 1), np.uint8)
EXPECTED = np.asarray(jax.jit(NETWORK.apply)(PARAMS, IMAGES))
LABELS = np.random.default_rng(1).integers(0, 10, 70).astype(np.uint8)


@pytest.fixture(scope="module")
def evaluators():
    return {
        size: Evaluator.compile(NETWORK, PARAMS, batch_size=size, portion=portion)
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


# Views.


@settings(deadline=None)
@given(down=st.integers(-27, 27), right=st.integers(-27, 27))
def test_a_shift_moves_the_pixels_and_what_comes_in_is_black(down: int, right: int):
    before = IMAGES[:3].copy()
    moved = shift(before, down, right)
    around = np.pad(IMAGES[:3], ((0, 0), (27, 27), (27, 27), (0, 0)))
    expected = around[:, 27 - down : 55 - down, 27 - right : 55 - right]
    assert moved.dtype == np.uint8
    np.testing.assert_array_equal(moved, expected)
    np.testing.assert_array_equal(before, IMAGES[:3])


def test_one_view_is_the_image_itself():
    (only,) = views_of(IMAGES, 1)
    np.testing.assert_array_equal(only, IMAGES)


@pytest.mark.parametrize(("count", "farthest"), [(5, 1), (9, 2)])
def test_views_are_the_image_and_all_its_nearest_shifts(count: int, farthest: int):
    point = np.zeros((1, 28, 28, 1), np.uint8)
    point[0, 10, 15, 0] = 200
    views = views_of(point, count)
    np.testing.assert_array_equal(views[0], point)
    places = [tuple(np.argwhere(view[0, :, :, 0] == 200)[0] - (10, 15)) for view in views]
    near = {(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if abs(i) + abs(j) <= farthest}
    assert len(places) == count
    assert set(places) == near
    assert views_of(np.zeros((0, 28, 28, 1), np.uint8), count)[-1].shape == (0, 28, 28, 1)


def probabilities(logits: np.ndarray) -> np.ndarray:
    return np.exp(Evaluation(logits, np.zeros(len(logits), np.uint8)).log_probabilities)


def test_the_average_of_one_view_is_its_logits():
    np.testing.assert_array_equal(average_views(EXPECTED[None]), EXPECTED)


@given(seed=st.integers(0, 2**32 - 1), views=st.integers(2, 9), size=st.sampled_from([0.1, 3.0, 30.0]))
def test_the_average_is_the_geometric_mean_of_the_probabilities(seed: int, views: int, size: float):
    random = np.random.default_rng(seed)
    logits = (random.standard_normal((views, 6, 10)) * size).astype(np.float32)
    average = average_views(logits)
    assert (average.shape, average.dtype) == ((6, 10), np.float32)
    product = np.prod([probabilities(view) ** (1 / views) for view in logits], axis=0)
    expected = product / product.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities(average), expected, rtol=1e-3, atol=1e-6)
    constants = random.standard_normal((views, 6, 1)).astype(np.float32) * 100
    np.testing.assert_allclose(average_views(logits + constants), average, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(average_views(logits[::-1]), average, rtol=1e-5, atol=1e-5)


def test_the_average_of_huge_logits_is_finite():
    logits = np.array([[[1e30, -1e30, 0]], [[0, 1e4, -1e4]]], np.float32)
    assert np.isfinite(average_views(logits)).all()


@pytest.mark.parametrize("views", [1, 5, 9])
def test_figures_of_several_views_are_those_of_their_average(evaluators, views: int):
    shifts = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)][:views]
    means = np.zeros((70, 10))
    for by in shifts:
        logits = np.asarray(jax.jit(NETWORK.apply)(PARAMS, shift(IMAGES, *by)))
        means += Evaluation(logits, LABELS).log_probabilities / views
    expected = Evaluation(means, LABELS)
    for size in (7, 64):
        found = evaluators[size](PARAMS, IMAGES, LABELS, views=views)
        np.testing.assert_allclose(found.log_probabilities, expected.log_probabilities, rtol=1e-3, atol=1e-4)
        assert found.loss == pytest.approx(expected.loss, rel=1e-4)
        assert found.correct == expected.correct
    alone = evaluators[64](PARAMS, IMAGES, LABELS).log_probabilities
    assert np.allclose(alone, expected.log_probabilities, rtol=1e-3, atol=1e-4) == (views == 1)


def drawn_from_their_own_probabilities(n: int) -> Evaluation:
    """Labels that come as often as the logits say."""
    random = np.random.default_rng(3)
    logits = random.normal(scale=3, size=(n, 10))
    labels = (logits + random.gumbel(size=logits.shape)).argmax(axis=1)
    return Evaluation(logits.astype(np.float32), labels)


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_the_temperature_undoes_wrong_confidence(factor: float):
    honest = drawn_from_their_own_probabilities(20_000)
    wrong = Evaluation(honest.logits * np.float32(factor), honest.labels)
    temperature = fit_temperature(wrong)
    assert temperature == pytest.approx(factor, rel=0.05)
    mended = wrong.at(temperature)
    assert (mended.predictions == wrong.predictions).all()
    assert mended.loss <= min(wrong.loss, wrong.at(temperature * 1.1).loss, wrong.at(temperature / 1.1).loss)
    assert mended.calibration_error < 0.01
    assert (wrong.calibration_error > 0.05) == (factor != 1)


def test_the_calibration_error_is_the_gap_between_certainty_and_share():
    logits = np.log(np.array([[0.8, 0.2]] * 10, np.float32))
    assert Evaluation(logits, np.array([0] * 8 + [1] * 2)).calibration_error == pytest.approx(0, abs=1e-6)
    assert Evaluation(logits, np.array([0] * 5 + [1] * 5)).calibration_error == pytest.approx(0.3, abs=1e-6)


def test_a_temperature_stays_in_its_range_when_all_is_right_or_wrong():
    logits = np.eye(10, dtype=np.float32) * 5
    labels = np.arange(10)
    assert 0.1 <= fit_temperature(Evaluation(logits, labels)) <= 10
    assert 0.1 <= fit_temperature(Evaluation(logits, (labels + 1) % 10)) <= 10


@given(total=st.integers(1, 100_000), share=st.floats(0, 1))
def test_wilson_interval_holds_the_share(total, share):
    correct = round(share * total)
    low, high = wilson_interval(correct, total)
    assert 0 <= low <= high <= 1
    assert low - 1e-12 <= correct / total <= high + 1e-12
    wider = wilson_interval(correct * 4, total * 4)
    assert wider[1] - wider[0] < high - low
