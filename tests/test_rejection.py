"""What tells a digit from what is none: scores, thresholds, reasons, and models that hold them."""

import dataclasses

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxdigits.checkpoint import Model, load_model, save_model
from jaxdigits.dataset import Dataset
from jaxdigits.errors import UsageError
from jaxdigits.predictions import Predictions
from jaxdigits.recognizer import Recognizer
from jaxdigits.rejection import fit_threshold, probabilities, reasons, score
from jaxdigits.training import TrainResult

LOGITS = arrays(
    np.float32, st.tuples(st.integers(0, 5), st.integers(3, 12)), elements=st.floats(-9, 9, width=32)
)
TEMPERATURES = st.floats(0.5, 5)
SCORES = arrays(
    np.float64, st.integers(1, 300), elements=st.integers(-50, 50).map(lambda tenths: tenths / 10)
)


# Probabilities and scores.


@given(LOGITS, TEMPERATURES, st.booleans())
def test_probabilities_are_those_of_the_classes_alone(logits: np.ndarray, temperature: float, none: bool):
    found = probabilities(logits, temperature, none)
    classes = logits.shape[1] - none
    expected = np.exp(logits[:, :classes].astype(float) / temperature)
    expected /= expected.sum(axis=1, keepdims=True)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@given(LOGITS, TEMPERATURES, st.booleans())
@example(np.array([[8, -7, -7]], np.float32), 0.5, False)
def test_the_score_is_the_log_odds_of_the_best_class_among_all_outputs(
    logits: np.ndarray, temperature: float, none: bool
):
    odds = np.exp(logits.astype(float) / temperature)
    own = odds[:, : logits.shape[1] - none].argmax(axis=1)
    best = odds[np.arange(len(odds)), own]
    others = np.where(np.arange(odds.shape[1]) == own[:, None], 0, odds).sum(axis=1)  # 1 less p is 0 soon
    before = logits.copy()
    found = score(logits, temperature, none)
    np.testing.assert_allclose(found, np.log(best / others), rtol=1e-10, atol=1e-10)
    np.testing.assert_array_equal(logits, before)


def test_the_score_tells_apart_what_is_certain_to_the_last_digit():
    logits = np.zeros((4, 10), np.float32)
    logits[:, 3] = (40, 41, 100, 1e6)
    assert (probabilities(logits).max(axis=1) == 1).all()
    found = score(logits)
    np.testing.assert_allclose(found, logits[:, 3] - np.log(9))
    assert (np.diff(found) > 0).all()


@given(st.floats(-30, 30), st.floats(0.1, 5))
def test_the_more_it_is_none_the_lower_the_score(none: float, more: float):
    logits = np.array([[5, 0, 1, none], [5, 0, 1, none + more]], np.float32)
    first, second = score(logits, none_class=True)
    assert second <= first
    np.testing.assert_array_equal(*probabilities(logits, none_class=True))


# Thresholds.


@given(SCORES, st.floats(0, 0.99))
def test_the_threshold_is_the_largest_that_refuses_no_more_than_asked_for(scores: np.ndarray, refuse: float):
    threshold = fit_threshold(scores, refuse)
    assert type(threshold) is float
    assert (scores < threshold).mean() <= refuse
    if (higher := scores[scores > threshold]).size:
        assert (scores < higher.min()).mean() > refuse


@pytest.mark.parametrize("scores", [[], [1.0, np.nan], [np.inf, 1.0]])
def test_a_threshold_needs_scores(scores: list[float]):
    with pytest.raises(UsageError, match="there are no scores"):
        fit_threshold(np.array(scores))


@pytest.mark.parametrize("refuse", [-0.1, 1, np.nan])
def test_a_share_out_of_range_is_refused(refuse: float):
    with pytest.raises(UsageError, match="share to refuse"):
        fit_threshold(np.ones(3), refuse)


# Reasons.


def test_there_is_one_reason_and_the_plainest_comes_first():
    logits = np.array([[9, 0, 0], [9, 0, 0], [1, 0, 5], [1, 0, 5], [1, 0.5, 0], [1, 0.5, 0]], np.float32)
    blank = np.array([False, True, False, True, False, True])
    scores = score(logits, none_class=True)
    found = reasons(logits, scores, blank, none_class=True, threshold=3.0)
    assert found.tolist() == ["", "blank", "not a digit", "blank", "uncertain", "blank"]
    found = reasons(logits, scores, blank, none_class=True)
    assert found.tolist() == ["", "blank", "not a digit", "blank", "", "blank"]
    found = reasons(logits, score(logits), blank, threshold=3.0)  # the third output is a class
    assert found.tolist() == ["", "blank", "", "blank", "uncertain", "blank"]
    assert reasons(logits, score(logits), blank & False).tolist() == [""] * 6
    assert reasons(logits[:0], scores[:0], blank[:0], none_class=True).tolist() == []


@given(LOGITS, st.floats(-9, 9))
def test_what_scores_at_the_threshold_or_above_is_not_refused(logits: np.ndarray, threshold: float):
    scores = score(logits)
    found = reasons(logits, scores, np.zeros(len(logits), bool), threshold=threshold)
    np.testing.assert_array_equal(found == "uncertain", scores < threshold)


# Models that hold them.


def with_none(model: Model, bias: float) -> Model:
    """The model with an output for 'none of them' that is the same whatever the image."""
    output = model.params["output"]
    params = model.params | {
        "output": {
            "kernel": np.pad(output["kernel"], ((0, 0), (0, 1))),
            "bias": np.append(output["bias"], np.float32(bias)),
        }
    }
    return dataclasses.replace(model, params=params, none_class=True)


def answers(model: Model, mnist: Dataset) -> Predictions:
    predictions = Recognizer(model).predict(mnist.test.images[:40])
    assert isinstance(predictions, Predictions)
    return predictions


@pytest.mark.parametrize("views", [1, 5])
def test_an_output_for_none_refuses_and_changes_no_answer(tiny_run: TrainResult, mnist: Dataset, views: int):
    model = dataclasses.replace(tiny_run.model, views=views)
    plain = answers(model, mnist)
    assert not plain.rejected.any()
    for bias, reason in ((-50.0, ""), (50.0, "not a digit")):
        found = answers(with_none(model, bias), mnist)
        assert set(found.reasons) == {reason}
        np.testing.assert_array_equal(found.digits, plain.digits)
        np.testing.assert_allclose(found.probabilities, plain.probabilities, rtol=1e-3, atol=1e-6)
        assert (found.scores <= plain.scores + 1e-3).all()


def test_a_loaded_model_refuses_what_the_saved_one_did(tiny_run: TrainResult, mnist: Dataset, tmp_path):
    model = with_none(tiny_run.model, 1.0)
    unlimited = answers(model, mnist)
    model = dataclasses.replace(model, threshold=fit_threshold(unlimited.scores, 0.5))
    save_model(tmp_path / "a.safetensors", model)
    for found in (answers(model, mnist), answers(load_model(tmp_path / "a.safetensors"), mnist)):
        assert found.rejected.sum() == 20
        np.testing.assert_array_equal(found.rejected, found.scores < model.threshold)
        np.testing.assert_array_equal(found.digits, unlimited.digits)
