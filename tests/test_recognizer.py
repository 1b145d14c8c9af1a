"""A picture is read alike alone and among others, in whatever form it comes."""

import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxdigits import dataset
from jaxdigits.checkpoint import MODEL_FILE
from jaxdigits.errors import DataError, UsageError
from jaxdigits.network_forms import fastest
from jaxdigits.predictions import Prediction, Predictions
from jaxdigits.recognizer import DEFAULT_MODEL, Recognizer, load, predict, predict_iter
from jaxdigits.sources import is_batch
from jaxdigits.training import TrainResult

# Of probabilities. Several pictures are multiplied in bfloat16 where the processor has a unit for it.
CPU = jax.devices("cpu")[0]
ROUNDING = 1e-5 if fastest(CPU, (32, 64))[1] == "float32" else 0.01


# Forms.


def every_form(image: np.ndarray, folder: Path) -> Iterator[tuple[str, Any]]:
    """The same picture, uint8 [28, 28], in each form that one may have."""
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, "PNG")
    path = folder / "picture.png"
    path.write_bytes(encoded.getvalue())
    yield "path", path
    yield "name", str(path)
    yield "bytes", encoded.getvalue()
    yield "file in memory", io.BytesIO(encoded.getvalue())
    yield "Pillow image", Image.fromarray(image)
    yield "RGB", np.stack([image] * 3, axis=-1)
    for dtype in (np.uint8, np.int64, np.float32, np.float64):
        yield f"0 to 255 as {dtype.__name__}", image.astype(dtype)
    yield "0 to 1", image / 255
    yield "0 to 1 in float32", (image / 255).astype(np.float32)
    yield "channel axis", image[:, :, None]
    yield "JAX array", jnp.asarray(image)
    yield "JAX array of floats", jnp.asarray(image, jnp.float32) / 255
    yield "not contiguous", np.asfortranarray(image)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_same_picture_has_one_answer(
    recognizer: Recognizer, images: np.ndarray, one_by_one: np.ndarray, tmp_path: Path, index: int
):
    for form, picture in every_form(images[index, :, :, 0], tmp_path):
        prediction = recognizer.predict(picture)
        assert isinstance(prediction, Prediction), form
        np.testing.assert_array_equal(prediction.probabilities, one_by_one[index], form)
        assert prediction.digit == one_by_one[index].argmax()
        assert prediction.name == str(prediction.digit)
        assert prediction.probability == one_by_one[index].max()
    with (tmp_path / "picture.png").open("rb") as file:
        np.testing.assert_array_equal(recognizer.predict(file).probabilities, one_by_one[index])


def test_a_list_of_every_form_has_as_many_answers(
    recognizer: Recognizer, images: np.ndarray, one_by_one: np.ndarray, tmp_path: Path
):
    forms = [picture for _, picture in every_form(images[0, :, :, 0], tmp_path)]
    predictions = recognizer.predict(forms)
    assert isinstance(predictions, Predictions)
    assert len(predictions) == len(forms)
    np.testing.assert_allclose(
        predictions.probabilities, np.repeat(one_by_one[:1], len(forms), 0), atol=ROUNDING
    )
    assert predictions.sources[1] == str(tmp_path / "picture.png")
    assert len(set(predictions.sources)) == len(forms) - 1  # the path and its name are one


@pytest.mark.parametrize(
    ("shape", "several"),
    [
        *(((28, 28), False), ((28, 28, 1), False), ((28, 28, 3), False), ((50, 40), False)),
        *(
            ((50, 40, 4), False),
            ((1, 28, 28), True),
            ((5, 28, 28), True),
            ((28, 28, 28), True),
            ((1, 28, 28, 1), True),
        ),
        *(((5, 28, 28, 1), True), ((1, 50, 40, 3), True), ((3, 50, 40, 1), True)),
    ],
)
def test_one_picture_gives_a_prediction_and_several_give_predictions(
    recognizer: Recognizer, shape: tuple[int, ...], several: bool
):
    pictures = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    prediction = recognizer.predict(pictures)
    assert is_batch(pictures) is several
    assert isinstance(prediction, Predictions if several else Prediction)
    if isinstance(prediction, Predictions):
        assert len(prediction) == shape[0]
    for members in ([pictures], (pictures,)):
        among = recognizer.predict(members)
        assert isinstance(among, Predictions)
        assert len(among) == (shape[0] if several else 1)


@pytest.mark.parametrize("nothing", [[], (), np.zeros((0, 28, 28), np.uint8), None, 3, [None]])
def test_what_is_no_picture_is_a_data_error(recognizer: Recognizer, nothing: Any):
    with pytest.raises(DataError) as caught:
        recognizer.predict(nothing)
    assert "\n" not in str(caught.value)


# Pictures that cannot be read, or hold nothing.


def test_one_bad_picture_does_not_stop_the_others(
    recognizer: Recognizer, images: np.ndarray, one_by_one: np.ndarray, tmp_path: Path
):
    mixed = [images[0], tmp_path / "missing.png", images[1], b"", np.full((28, 28), np.nan), images[2]]
    with pytest.raises(DataError, match=r"missing\.png: "):
        recognizer.predict(mixed)
    with pytest.raises(DataError, match=r"missing\.png: "):
        list(recognizer.predict_iter(mixed))
    predictions = recognizer.predict(mixed, on_error="skip")
    assert isinstance(predictions, Predictions)
    assert predictions.sources == ("array 0", "array 2", "array 5")
    np.testing.assert_allclose(predictions.probabilities, one_by_one[:3], atol=ROUNDING)
    names = [str(error).partition(":")[0] for error in predictions.errors]
    assert names == [str(tmp_path / "missing.png"), "bytes 3", "array 4"]
    told: list[DataError] = []
    read = list(recognizer.predict_iter(iter(mixed), on_error=told.append))
    assert [one.source for one in read] == list(predictions.sources)
    assert [str(error) for error in told] == [str(error) for error in predictions.errors]
    nothing = recognizer.predict([b"", b""], on_error="skip")
    assert isinstance(nothing, Predictions)
    assert len(nothing) == 0
    assert len(nothing.errors) == 2


def test_a_single_bad_picture_is_an_error_whatever_is_asked_for(recognizer: Recognizer):
    with pytest.raises(DataError, match="the file is empty"):
        recognizer.predict(b"", on_error="skip")


def test_other_ways_with_errors_are_refused(recognizer: Recognizer, images: np.ndarray):
    with pytest.raises(UsageError, match="on_error is 'ignore'"):
        recognizer.predict(images[:2], on_error="ignore")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="batch_size is 0"):
        next(recognizer.predict_iter(images[:2], batch_size=0))


def test_a_blank_picture_is_rejected_as_blank(recognizer: Recognizer, images: np.ndarray):
    blank = recognizer.predict(np.full((90, 80), 250, np.uint8))
    assert isinstance(blank, Prediction)
    assert (blank.rejected, blank.reason) == (True, "blank")
    assert "rejected='blank'" in repr(blank)
    both = recognizer.predict([images[0], np.zeros((28, 28), np.uint8)])
    assert isinstance(both, Predictions)
    assert both.reasons.tolist() == ["", "blank"]
    assert both.rejected.tolist() == [False, True]
    assert [one.reason for one in both] == ["", "blank"]
    assert repr(both) == f"Predictions(n=2, 1 rejected: {both[0].name} {both[1].name}?)"


def test_polarity_and_raw_input_can_be_asked_for(
    recognizer: Recognizer, images: np.ndarray, one_by_one: np.ndarray
):
    inverted = 255 - images[0, :, :, 0]
    with_it = recognizer.predict(inverted, invert=True)
    assert isinstance(with_it, Prediction)
    assert with_it.digit == one_by_one[0].argmax()
    as_it_is = recognizer.predict(inverted, raw=True)
    assert isinstance(as_it_is, Prediction)
    np.testing.assert_array_equal(
        as_it_is.probabilities, recognizer.probabilities(inverted[None, :, :, None])[0]
    )
    with pytest.raises(DataError, match="a raw image has 28x28"):
        recognizer.predict(np.zeros((20, 20), np.uint8), raw=True)


def test_images_of_another_data_set_are_left_as_they_are(tiny_run: TrainResult):
    of_clothes = Recognizer(dataclasses.replace(tiny_run.model, dataset="fashion_mnist"))
    full = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    predictions = of_clothes.predict(full)
    assert isinstance(predictions, Predictions)
    np.testing.assert_array_equal(predictions.probabilities, of_clothes.probabilities(full[..., None]))


def test_any_number_streams_through(recognizer: Recognizer, images: np.ndarray, one_by_one: np.ndarray):
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        while True:
            taken += 1
            yield images[(taken - 1) % 600, :, :, 0]

    stream = recognizer.predict_iter(endless(), batch_size=8)
    for index in range(100):
        np.testing.assert_allclose(next(stream).probabilities, one_by_one[index], atol=1e-5)
    assert taken < 400
    some = predict_iter(images[:70], recognizer)
    assert [one.digit for one in some] == one_by_one[:70].argmax(1).tolist()


# Models.


def test_a_model_may_be_named_in_any_way(
    recognizer: Recognizer, tiny_run: TrainResult, images: np.ndarray, one_by_one: np.ndarray
):
    folder = tiny_run.run_dir
    for model in (recognizer, Recognizer(tiny_run.model), folder, str(folder), folder / MODEL_FILE):
        prediction = predict(images[0], model=model)
        np.testing.assert_array_equal(prediction.probabilities, one_by_one[0])


def test_no_model_is_a_data_error(tmp_path: Path, images: np.ndarray):
    with pytest.raises(DataError, match="there is no model"):
        predict(images[0], model=tmp_path)


def test_reading_needs_no_particular_default_device(tiny_run: TrainResult, images: np.ndarray):
    expected = Recognizer(tiny_run.model).probabilities(images[:2])
    with jax.default_device(jax.local_devices()[-1]):
        np.testing.assert_allclose(Recognizer(tiny_run.model).probabilities(images[:2]), expected, atol=1e-5)


# The model that comes with the package.


def test_the_packaged_model_is_small_and_says_what_it_was_trained_on():
    assert sum(path.stat().st_size for path in DEFAULT_MODEL.iterdir()) < 3_000_000
    model = load().model
    assert model.dataset == "mnist"
    assert model.class_names == tuple("0123456789")


def test_the_packaged_model_reads_mnist_as_well_as_it_claims(mnist: dataset.Dataset):
    predictions = predict(mnist.test.images)
    assert isinstance(predictions, Predictions)
    correct = int((predictions.digits == mnist.test.labels).sum())
    summary = json.loads((DEFAULT_MODEL / "summary.json").read_text())
    assert correct >= 9800
    assert (correct, 10_000) == (summary["test_correct"], summary["test_total"])
    assert summary["test_accuracy"] == correct / 10_000
