"""Pictures to predictions: a trained model, compiled, behind one call.

What a picture looks like is `image`'s business, what a model file holds `checkpoint`'s, which answers are
refused `rejection`'s. Programs are compiled for a few batch sizes only, and inputs are padded up to the next,
so that many pictures of varying number cost few compilations.
"""

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeAlias

import jax
import numpy as np
from jaxtyping import Float

from jaxdigits import child, loader, rejection
from jaxdigits.checkpoint import Model, load_model
from jaxdigits.device import allocate_as_needed, compiler_options, dispatch_synchronously
from jaxdigits.errors import DataError, UsageError
from jaxdigits.evaluate import average_views, in_portions, of_all_views, views_of
from jaxdigits.image import Invert
from jaxdigits.predictions import Prediction, Predictions
from jaxdigits.sources import Pictures, is_batch

__all__ = [
    "DEFAULT_MODEL",
    "Recognizer",
    "load",
    "predict",
    "predict_iter",
    "recognizer_of",
]

DEFAULT_MODEL = Path(__file__).with_name("pretrained")  # ships with the package, made by `train.py`
# Images in one program, besides those of a single picture and its views.
_BATCH_SIZES = {"cpu": (16, 64, 320), "other": (32, 256, 1024)}
_LARGE = 1280  # of very many on a CPU, for a fifth more of them a second
_MANY = 6  # such batches make very many: of fewer, too much of the last one could be empty
_PORTION = 32  # of them that a CPU takes through the network at once: their windows stay in its cache
_VIEWED_AT_ONCE = 12_800  # views of images: of ten thousand, five views at once take 60 MiB more
_READ_AT_ONCE = 256  # pictures, where any number streams through

OnError: TypeAlias = 'Literal["raise", "skip"] | Callable[[DataError], object]'
Show: TypeAlias = Callable[[str, Mapping[str, np.ndarray]], object]


class Recognizer:
    """Reads pictures with one model, on JAX's default device.

    Where it is the first to start JAX, a CPU is set to answer at once: see `device.dispatch_synchronously`.

    Args:
      model: the model.
    """

    def __init__(self, model: Model):
        from jaxdigits.network_forms import fastest

        allocate_as_needed()
        dispatch_synchronously()
        self.model = model
        device = jax.config.values["jax_default_device"] or jax.local_devices()[0]
        self._params = jax.device_put(model.params, device)
        on_cpu = device.platform == "cpu"
        self._sizes = _BATCH_SIZES["cpu" if on_cpu else "other"]
        self._large = _LARGE if on_cpu else self._sizes[-1]
        self._threads = child.cores() if on_cpu else 1  # each of which keeps a core busy with its programs
        form, dtype = fastest(device, model.channels, model.dtype, learning=False)
        # On a CPU, too: a single picture's few views take no longer as direct convolutions.
        single = model.network("direct", "float32" if model.dtype == "auto" else model.dtype)
        self._single = jax.jit(of_all_views(single, model.views))
        several = in_portions(model.network(form, dtype), _PORTION) if on_cpu else single.apply
        self._several = jax.jit(several, compiler_options=compiler_options(device.platform))

    def predict(
        self, images: Pictures, *, invert: Invert = "auto", raw: bool = False, on_error: OnError = "raise"
    ) -> Prediction | Predictions:
        """Reads one picture, or several.

        Args:
          images: a path, a folder, a glob pattern, "-" for standard input, encoded bytes, a binary file, a
            Pillow image, a NumPy or JAX array ([28, 28], [n, 28, 28], either with a last axis of 1, or a
            picture of another size), or a list or generator of these. See `jaxdigits.sources.sources`.
          invert: whether ink is darker than paper; "auto" finds out.
          raw: take 28x28 pictures, and no others, for the network's input as they are.
          on_error: of a picture that cannot be read, raise the error, skip it, or call this with it and
            skip it. A single picture is never skipped.

        Returns:
          A `Prediction` for one picture; `Predictions` for a list, a generator, a folder, a pattern or a
          batch of any length.

        Raises:
          DataError: something is no picture; there is none.
        """
        if is_batch(images):
            return self.predict_all(images, invert=invert, raw=raw, on_error=on_error)
        return self.predict_all(images, invert=invert, raw=raw)[0]

    def predict_all(
        self, images: Pictures, *, invert: Invert = "auto", raw: bool = False, on_error: OnError = "raise"
    ) -> Predictions:
        """The same, but `Predictions` of length 1 for one picture."""
        read, errors = [], []
        for one in self._loaded(images, invert, raw, on_error):
            (errors if one.error else read).append(one)
        pixels = np.stack([one.image for one in read]) if read else np.zeros((0, 28, 28), np.uint8)
        skipped = tuple(one.error for one in errors)
        return dataclasses.replace(self._predictions(read, pixels), errors=skipped)

    def predict_iter(
        self,
        images: Pictures,
        *,
        invert: Invert = "auto",
        raw: bool = False,
        on_error: OnError = "raise",
        batch_size: int = _READ_AT_ONCE,
        show: Show | None = None,
    ) -> Iterator[Prediction]:
        """Reads any number of pictures in constant memory, and yields each in order.

        Args:
          images: as for `predict`.
          invert: as for `predict`.
          raw: as for `predict`.
          on_error: as for `predict`; a single picture may be skipped too.
          batch_size: how many pictures are read at once; with 1, each answer comes as soon as it can.
          show: is given the name of each picture and, as `jaxdigits.image.stages` has them, its steps.

        Raises:
          DataError: something is no picture; there is none.
        """
        if batch_size < 1:
            raise UsageError(f"batch_size is {batch_size}; expected at least 1")
        waiting = self._loaded(images, invert, raw, on_error, show)
        waiting = (one for one in waiting if one.error is None)
        while read := list(itertools.islice(waiting, batch_size)):
            yield from self._predictions(read, np.stack([one.image for one in read]))

    def _loaded(
        self, images: Pictures, invert: Invert, raw: bool, on_error: OnError, show: Show | None = None
    ) -> Iterator[loader.Loaded]:
        """The pictures in MNIST's form, and the errors of those that are skipped."""
        if on_error not in ("raise", "skip") and not callable(on_error):
            raise UsageError(f"on_error is {on_error!r}; expected 'raise', 'skip' or a function")
        # Clothes and letters are not digits on paper: what has their data set's form is left as it is.
        form = raw or (False if self.model.dataset == "mnist" else "if 28x28")
        for one in loader.load(images, invert=invert, raw=form, stages=show is not None):
            if one.error and on_error == "raise":
                raise one.error
            if one.error and callable(on_error):
                on_error(one.error)
            if show and one.stages:
                show(one.name, one.stages)
            yield one

    def _predictions(self, read: list[loader.Loaded], pixels: np.ndarray) -> Predictions:
        """What loaded pictures show; `pixels` are theirs, uint8 [n, 28, 28]."""
        model = self.model
        logits = self.logits(pixels[..., None])
        scores = rejection.score(logits, model.temperature, model.none_class)
        blank = np.array([one.blank for one in read], bool)
        return Predictions(
            tuple(one.name for one in read),
            rejection.probabilities(logits, model.temperature, model.none_class),
            scores,
            rejection.reasons(logits, scores, blank, none_class=model.none_class, threshold=model.threshold),
            model.class_names,
            tuple(one.note for one in read),
        )

    def probabilities(self, images: np.ndarray) -> Float[np.ndarray, "n classes"]:
        """The probabilities of model-ready images: uint8 [n, 28, 28, 1], white on black."""
        model = self.model
        return rejection.probabilities(self.logits(images), model.temperature, model.none_class)

    def logits(self, images: np.ndarray) -> Float[np.ndarray, "n outputs"]:
        """The logits of model-ready images, averaged over their views, before any temperature; float32.

        There is one for each class, and one more if the model has an output for none of them.
        """
        step = _VIEWED_AT_ONCE // self.model.views
        parts = [images[start : start + step] for start in range(0, len(images), step)]
        return np.concatenate([self._of_views(part) for part in parts or [images]])

    def _of_views(self, images: np.ndarray) -> Float[np.ndarray, "n outputs"]:
        """The logits of so few images that memory for all their views is no matter."""
        if len(images) == 1:
            return np.asarray(self._single(self._params, images))
        views = views_of(images, self.model.views)
        sizes = (len(views), len(images), self.model.outputs)
        return average_views(self._run(views[0] if len(views) == 1 else np.concatenate(views)).reshape(sizes))

    def _run(self, images: np.ndarray) -> Float[np.ndarray, "n outputs"]:
        """The logits of images, one view of each."""
        batches = [*self._batches(images)]
        if len(batches) == 1:  # one transfer, without device_get's search for more
            return np.asarray(self._several(self._params, batches[0]))[: len(images)]
        if self._threads > 1:
            with ThreadPoolExecutor(self._threads) as pool:
                logits = [*pool.map(lambda batch: np.asarray(self._several(self._params, batch)), batches)]
        else:
            logits = jax.device_get([self._several(self._params, batch) for batch in batches])
        return np.concatenate([np.zeros((0, self.model.outputs), np.float32), *logits])[: len(images)]

    def _batches(self, images: np.ndarray) -> Iterator[np.ndarray]:
        """Images in batches of the sizes that there are programs for, the last one filled up with zeros.

        So is what is left of many: programs for less take half a second and 45 MiB each to compile.
        """
        sizes, start = self._sizes, 0
        if len(images) > sizes[-1]:
            sizes = (self._large if len(images) >= _MANY * self._large else sizes[-1],)
        while start < len(images):
            left = len(images) - start
            # The program that holds all that is left, unless more than half of it would stay empty.
            filled = [size for size in sizes if size <= left]
            size = next((size for size in sizes if left <= size < 2 * left), max(filled, default=sizes[0]))
            batch = images[start : start + size]
            if len(batch) < size:
                batch = np.pad(batch, ((0, size - len(batch)), (0, 0), (0, 0), (0, 0)))
            yield batch
            start += size


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
    images: Pictures,
    model: "Recognizer | str | os.PathLike[str] | None" = None,
    *,
    invert: Invert = "auto",
    raw: bool = False,
    on_error: OnError = "raise",
) -> Prediction | Predictions:
    """Reads one picture, or several: see `Recognizer.predict`.

    Args:
      images: picture or pictures.
      model: a recogniser, a run folder or a model file; by default the packaged model. To use
        another one often, `load` it once.
      invert: whether ink is darker than paper; "auto" finds out.
      raw: take 28x28 pictures, and no others, for the network's input as they are.
      on_error: of a picture that cannot be read, raise the error, skip it, or call this with it and skip it.

    Raises:
      DataError: something is no picture, or no model.
    """
    return recognizer_of(model).predict(images, invert=invert, raw=raw, on_error=on_error)


def predict_iter(
    images: Pictures,
    model: "Recognizer | str | os.PathLike[str] | None" = None,
    *,
    invert: Invert = "auto",
    raw: bool = False,
    on_error: OnError = "raise",
) -> Iterator[Prediction]:
    """Reads any number of pictures in constant memory: see `Recognizer.predict_iter`.

    Args:
      images: pictures.
      model: as for `predict`.
      invert: as for `predict`.
      raw: as for `predict`.
      on_error: as for `predict`.

    Raises:
      DataError: something is no picture, or no model.
    """
    return recognizer_of(model).predict_iter(images, invert=invert, raw=raw, on_error=on_error)


def recognizer_of(model: "Recognizer | str | os.PathLike[str] | None") -> Recognizer:
    """The recogniser that is meant: a given one, that of a file, or the packaged one, loaded once.

    Raises:
      DataError: there is no model, or it is damaged.
    """
    if model is None:
        return _default()
    return model if isinstance(model, Recognizer) else load(model)
