"""Many pictures are read as each of them alone, in whatever batches and from whatever views."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdigits import dataset
from jaxdigits import recognizer as module
from jaxdigits.evaluate import shift
from jaxdigits.predictions import Predictions
from jaxdigits.recognizer import Recognizer
from jaxdigits.training import TrainResult

from .test_recognizer import ROUNDING

# Batches.


@pytest.mark.parametrize("n", [0, 1, 2, 31, 32, 33, 255, 256, 257, 300, 600])
def test_a_batch_is_read_as_its_pictures_are(
    recognizer: Recognizer, images: np.ndarray, one_by_one: np.ndarray, n: int
):
    together = recognizer.probabilities(images[:n])
    assert together.shape == (n, 10)
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, one_by_one[:n], atol=ROUNDING)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 599), min_size=1, max_size=70))
def test_order_and_repetition_change_nothing(
    recognizer: Recognizer, images: np.ndarray, one_by_one: np.ndarray, chosen: list[int]
):
    np.testing.assert_allclose(recognizer.probabilities(images[chosen]), one_by_one[chosen], atol=ROUNDING)


@pytest.mark.parametrize(("n", "size"), [(33, 64), (40, 64), (100, 128), (255, 256)])
def test_padding_changes_nothing(recognizer: Recognizer, images: np.ndarray, n: int, size: int):
    padded, full = recognizer.probabilities(images[:n]), recognizer.probabilities(images[:size])
    np.testing.assert_array_equal(padded, full[:n])


def test_many_are_read_by_one_program(
    tiny_run: TrainResult, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    reader, sizes = Recognizer(tiny_run.model), set()
    run = reader._several
    monkeypatch.setattr(reader, "_several", lambda params, batch: sizes.add(len(batch)) or run(params, batch))
    reader.probabilities(images[:400])
    assert len(sizes) == 1


@pytest.mark.parametrize(("n", "size"), [(321, 320), (575, 320), (576, 96)])
def test_very_many_are_read_in_batches_of_another_size(
    tiny_run: TrainResult, images: np.ndarray, monkeypatch: pytest.MonkeyPatch, n: int, size: int
):
    reader, sizes = Recognizer(tiny_run.model), set()
    run = reader._several
    expected = reader.probabilities(images[:n])
    monkeypatch.setattr(reader, "_large", 96)  # which has to be filled six times
    monkeypatch.setattr(reader, "_sizes", (*reader._sizes[:-1], 320))
    monkeypatch.setattr(reader, "_several", lambda params, batch: sizes.add(len(batch)) or run(params, batch))
    np.testing.assert_allclose(reader.probabilities(images[:n]), expected, atol=ROUNDING)
    assert sizes == {size}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_probabilities_sum_to_one_whatever_the_pixels(recognizer: Recognizer, seed: int, n: int):
    pixels = np.random.default_rng(seed).integers(0, 256, (n, 28, 28, 1), np.uint8)
    probabilities = recognizer.probabilities(pixels)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (probabilities >= 0).all()


def test_the_test_set_is_read_as_well_as_the_training_says(
    recognizer: Recognizer, mnist: dataset.Dataset, tiny_run: TrainResult
):
    summary = json.loads((tiny_run.run_dir / "summary.json").read_text())
    total = summary["test_total"]
    predictions = recognizer.predict(mnist.test.images[:total])
    assert isinstance(predictions, Predictions)
    correct = int((predictions.digits == mnist.test.labels[:total]).sum())
    assert correct == summary["test_correct"]
    assert correct / total == summary["test_accuracy"]


# Views.


@pytest.fixture(scope="module", params=[5, 9])
def of_views(request: pytest.FixtureRequest, tiny_run: TrainResult) -> Recognizer:
    return Recognizer(dataclasses.replace(tiny_run.model, views=request.param))


@pytest.mark.parametrize("n", [0, 1, 2, 6, 7, 28, 29, 52, 60])
def test_a_batch_is_read_as_its_pictures_are_with_several_views(
    of_views: Recognizer, images: np.ndarray, n: int
):
    together = of_views.probabilities(images[:n])
    assert (together.shape, together.dtype) == ((n, 10), np.float32)
    for row, image in zip(together, images, strict=False):
        np.testing.assert_allclose(row, of_views.probabilities(image[None])[0], atol=ROUNDING)


def test_the_views_of_many_are_made_in_parts(
    of_views: Recognizer, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    together = of_views.probabilities(images[:100])
    monkeypatch.setattr(module, "_VIEWED_AT_ONCE", 30)
    np.testing.assert_allclose(of_views.probabilities(images[:100]), together, atol=ROUNDING)


def test_several_views_are_averaged(of_views: Recognizer, recognizer: Recognizer, images: np.ndarray):
    by_all = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)]
    shifts = by_all[: of_views.model.views]
    logs = [np.log(recognizer.probabilities(shift(images, *by)).astype(np.float64)) for by in shifts]
    expected = np.exp(np.mean(logs, axis=0))
    expected /= expected.sum(axis=1, keepdims=True)
    found = of_views.probabilities(images)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert np.abs(found - recognizer.probabilities(images)).max() > 0.01
