"""Pictures to predictions: a trained model, compiled, behind one call.

What a picture looks like is `image`'s business, what a model file holds `checkpoint`'s. Programs are
compiled for a few batch sizes only, and inputs are padded up to the next, so that many pictures of
varying number cost few compilations.
"""

import dataclasses
import functools
import operator
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, SupportsIndex

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxdigits.checkpoint import Model, load_model
from jaxdigits.device import allocate_as_needed
from jaxdigits.image import is_batch, load_images
from jaxdigits.model import fastest_form

__all__ = ["DEFAULT_MODEL", "Prediction", "Predictions", "Recognizer", "load", "predict"]

DEFAULT_MODEL = Path(__file__).with_name("pretrained")  # ships with the package, made by `train.py`
_BATCH_SIZES = (1, 32, 256)


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """What one picture shows.

    Attributes:
      source: the picture's name: its path, or its kind and place among the inputs.
      digit: the most probable class, from 0; for MNIST it is the digit itself.
      name: the name of that class.
      probability: its probability, from 0 to 1.
      probabilities: those of all classes, float32 [classes].
    """

    source: str
    digit: int
    name: str
    probability: float
    probabilities: Float[np.ndarray, " classes"]

    def __repr__(self) -> str:
        return f"Prediction({self.name!r}, probability={self.probability:.4f}, source={self.source!r})"


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """What several pictures show: arrays, which also iterate as `Prediction`s.

    Attributes:
      sources: n names of pictures.
      probabilities: float32 [n, classes].
      class_names: a name for each class.
    """

    sources: tuple[str, ...]
    probabilities: Float[np.ndarray, "n classes"]
    class_names: tuple[str, ...]

    @property
    def digits(self) -> Int[np.ndarray, " n"]:
        """The most probable class of each picture."""
        return self.probabilities.argmax(axis=1)

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: SupportsIndex) -> Prediction:
        index = operator.index(index)
        row = self.probabilities[index]
        digit = int(row.argmax())
        return Prediction(self.sources[index], digit, self.class_names[digit], float(row[digit]), row)

    def __iter__(self) -> Iterator[Prediction]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        shown = " ".join(self.class_names[digit] for digit in self.digits[:20])
        return f"Predictions(n={len(self)}: {shown}{' ...' if len(self) > 20 else ''})"


class Recognizer:
    """Reads pictures with one model, on JAX's default device.

    Args:
      model: the model.
    """

    def __init__(self, model: Model):
        allocate_as_needed()
        self.model = model
        device = jax.config.values["jax_default_device"] or jax.local_devices()[0]
        network = model.network(fastest_form(device.platform))
        self._params = jax.device_put(model.params, device)
        self._probabilities = jax.jit(lambda params, images: jax.nn.softmax(network.apply(params, images)))

    def predict(self, images: Any) -> Prediction | Predictions:
        """Reads one picture, or several.

        Args:
          images: a path, a Pillow image, a NumPy or JAX array ([28, 28], [n, 28, 28], either with a
            last axis of 1, or a picture of another size), encoded bytes, a binary file, or a list of
            these. See `jaxdigits.image.load_images` for what each may hold.

        Returns:
          A `Prediction` for one picture, `Predictions` for a list or a batch of any length.

        Raises:
          DataError: something is no picture.
        """
        predictions = self.predict_all(images)
        return predictions if is_batch(images) else predictions[0]

    def predict_all(self, images: Any) -> Predictions:
        """The same, but `Predictions` of length 1 for one picture."""
        pixels, names = load_images(images)
        return Predictions(tuple(names), self.probabilities(pixels), self.model.class_names)

    def probabilities(self, images: np.ndarray) -> Float[np.ndarray, "n classes"]:
        """The probabilities of model-ready images: uint8 [n, 28, 28, 1], white on black."""
        batches: list[Any] = [np.zeros((0, len(self.model.class_names)), np.float32)]
        start = 0
        while start < len(images):
            left = len(images) - start
            size = next((size for size in _BATCH_SIZES if size >= left), _BATCH_SIZES[-1])
            batch = images[start : start + size]
            if len(batch) < size:
                batch = np.pad(batch, ((0, size - len(batch)), (0, 0), (0, 0), (0, 0)))
            batches.append(self._probabilities(self._params, batch))
            start += size
        return np.concatenate(jax.device_get(batches))[: len(images)]


def load(path: str | os.PathLike[str] | None = None) -> Recognizer:
    """A recogniser from a run folder or a model file; by default the model that ships with the package.

    Raises:
      DataError: there is no model, or it is damaged.
    """
    return Recognizer(load_model(DEFAULT_MODEL if path is None else path))


@functools.lru_cache(maxsize=1)
def _default() -> Recognizer:
    """The default recogniser, loaded once in a process."""
    return load()


def predict(
    images: Any, model: "Recognizer | str | os.PathLike[str] | None" = None
) -> Prediction | Predictions:
    """Reads one picture, or several: see `Recognizer.predict`.

    Args:
      images: picture or pictures.
      model: a recogniser, a run folder or a model file; by default the packaged model. To use
        another one often, `load` it once.

    Raises:
      DataError: something is no picture, or no model.
    """
    if model is None:
        return _default().predict(images)
    return (model if isinstance(model, Recognizer) else load(model)).predict(images)
