"""What predictions are: a sequence, plain values, and what follows from their probabilities."""

import json

import numpy as np
import pytest

from jaxdigits.predictions import Prediction, Predictions
from jaxdigits.recognizer import Recognizer
from jaxdigits.rejection import score


def test_predictions_are_a_sequence(recognizer: Recognizer, images: np.ndarray):
    predictions = recognizer.predict(images[:25])
    assert isinstance(predictions, Predictions)
    listed = list(predictions)
    assert len(listed) == len(predictions) == 25
    assert [one.digit for one in listed] == predictions.digits.tolist()
    assert [one.source for one in listed] == list(predictions.sources)
    for index in (*range(-25, 25), np.int64(3), np.int32(-1)):
        assert predictions[index].source == listed[index].source
        np.testing.assert_array_equal(predictions[index].probabilities, listed[index].probabilities)
    for index in (25, -26, 1000):
        with pytest.raises(IndexError):
            predictions[index]
    for index in (slice(0, 2), "0", 0.0):
        with pytest.raises(TypeError):
            predictions[index]  # type: ignore[index]
    assert listed[0] in listed  # comparing and hashing work, by identity
    assert len(set(listed)) == 25


def test_what_follows_from_the_probabilities(recognizer: Recognizer, images: np.ndarray):
    predictions = recognizer.predict(images[:25])
    assert isinstance(predictions, Predictions)
    ordered = np.sort(predictions.probabilities, axis=1)
    rows = np.arange(25)
    np.testing.assert_array_equal(predictions.probabilities[rows, predictions.runner_ups], ordered[:, -2])
    np.testing.assert_allclose(
        predictions.scores, score(recognizer.logits(images[:25]), recognizer.model.temperature)
    )
    for one, expected in zip(predictions, ordered, strict=True):
        assert one.probabilities[one.ranking].tolist() == expected[::-1].tolist()
        assert one.ranking[:2] == [one.digit, one.runner_up]
        assert (one.name, one.runner_up_name) == (str(one.digit), str(one.runner_up))
        assert one.probability == expected[-1]
        assert one.score == pytest.approx(np.log(one.probability / (1 - one.probability)), rel=0.01)
    tied = Prediction("", np.array([0.1, 0.4, 0.1, 0.4]), 0.0, "", ("a", "b", "c", "d"))
    assert (tied.digit, tied.runner_up, tied.ranking) == (1, 3, [1, 3, 0, 2])


def test_predictions_turn_into_columns_and_rows_of_plain_values(recognizer: Recognizer, images: np.ndarray):
    mixed = [*images[:5], np.zeros((28, 28), np.uint8)]
    predictions = recognizer.predict(mixed)
    assert isinstance(predictions, Predictions)
    columns, rows = predictions.to_dict(), predictions.to_rows()
    assert json.loads(json.dumps(columns)) == columns
    assert json.loads(json.dumps(rows)) == rows
    assert columns["source"] == list(predictions.sources)
    assert columns["digit"] == predictions.digits.tolist()
    assert columns["runner_up"] == predictions.runner_ups.tolist()
    assert columns["probabilities"] == predictions.probabilities.tolist()
    assert columns["score"] == predictions.scores.tolist()
    assert columns["rejected"] == [False] * 5 + [True]
    assert columns["reason"] == predictions.reasons.tolist()
    for index, (one, row) in enumerate(zip(predictions, rows, strict=True)):
        fields = one.to_dict()
        assert fields == {name: values[index] for name, values in columns.items()}
        shares = {f"probability_{digit}": share for digit, share in enumerate(fields.pop("probabilities"))}
        assert row == fields | shares
    nothing = recognizer.predict([b""], on_error="skip")
    assert isinstance(nothing, Predictions)
    assert nothing.to_rows() == []
    assert nothing.to_dict() == {name: [] for name in columns}


def test_what_predictions_show_of_themselves(recognizer: Recognizer, images: np.ndarray):
    for n in (1, 20, 21):
        predictions = recognizer.predict(images[:n])
        assert isinstance(predictions, Predictions)
        digits = " ".join(map(str, predictions.digits[:20]))
        assert repr(predictions) == f"Predictions(n={n}: {digits}{' ...' if n > 20 else ''})"
    one = recognizer.predict(images[0])
    assert isinstance(one, Prediction)
    assert repr(one) == f"Prediction('{one.digit}', probability={one.probability:.4f}, source='array')"
