"""The images of a run: what it trains on, what it holds out, what it tests on.

In one process they are in memory. Of several, each leaves them on disk (`rows.Rows`) and reads those that it
brings to its devices, and the few that all need: some two thousand for whitening, and the digits that images
of no digit are made from.
"""

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxdigits import cache
from jaxdigits import dataset as datasets
from jaxdigits import mesh as meshes
from jaxdigits.config import TrainConfig
from jaxdigits.dataset import Dataset, Split
from jaxdigits.errors import UsageError
from jaxdigits.nondigits import make_non_digits

__all__ = ["MNIST_IMAGES", "Splits", "load_splits", "taught"]

MNIST_IMAGES = 60_000  # in the training split
_SMOKE = (2048, 1024)  # training and test images of a smoke run


@dataclasses.dataclass(frozen=True)
class Splits:
    """A data set as a run uses it.

    Attributes:
      name: of the data set.
      train: the images to train on.
      non_digits: images of no digit, to be trained on behind these; or none.
      validation: held out of the training split, or None.
      test: read once, at the end.
      class_names: a name for each class.
      origin: what the images to train on were chosen and made from, and how, as JSON values; the SHA-256 of
        the whole training split is among them.
    """

    name: str
    train: Split
    non_digits: np.ndarray
    validation: Split | None
    test: Split
    class_names: tuple[str, ...]
    origin: tuple[str | int, ...]

    @property
    def taught(self) -> int:
        """How many images are trained on."""
        return len(self.train.labels) + len(self.non_digits)

    @functools.cached_property
    def digest(self) -> str:
        """A SHA-256, in hexadecimal, that differs where what is trained on does.

        It follows from the checksum of the whole training split, which is known without reading all of it
        where that is on disk, and from what was made.
        """
        digest = hashlib.sha256(json.dumps(self.origin).encode())
        digest.update(np.ascontiguousarray(self.non_digits).data)
        return digest.hexdigest()

    def resident(self, mesh: Mesh) -> tuple[jax.Array, jax.Array]:
        """Images and labels of all that is trained on, whole on every device.

        Those of no digit come last, as a class of their own.
        """
        images, labels = meshes.resident(mesh, self.train.images), self.train.labels.astype(np.int32)
        if len(self.non_digits):
            join = jax.jit(lambda *parts: jnp.concatenate(parts), out_shardings=meshes.replicated(mesh))
            images = join(images, meshes.resident(mesh, self.non_digits))
            labels = np.pad(labels, (0, len(self.non_digits)), constant_values=len(self.class_names))
        return images, meshes.resident(mesh, labels)


def taught(config: TrainConfig, images: int) -> int:
    """How many images a run trains on, of a training split of so many, those of no digit among them."""
    images = min(images, _SMOKE[0]) if config.smoke else images
    return images - _held_out(config, images) + config.non_digits


def _held_out(config: TrainConfig, images: int) -> int:
    """How many of the images are held out."""
    return min(config.validation, images // 4)


def load_splits(config: TrainConfig, say: Callable[[str], None]) -> Splits:
    """Loads the data set and takes the validation images out of its training split.

    Args:
      config: which set, and how many images to hold out.
      say: called with lines for people.

    Raises:
      DataError: the data set cannot be had, or is damaged.
      UsageError: what only digits have is asked for, and the set is not one of digits.
    """
    several = jax.process_count() > 1
    data: Dataset = datasets.load(config.dataset, config.data_dir, on_disk=several, say=say)
    train_split, test = data.train, data.test
    if config.smoke:
        train_split, test = (
            Split(*(a[:n] for a in s)) for s, n in zip((train_split, test), _SMOKE, strict=True)
        )
    held_out, validation = _held_out(config, len(train_split.labels)), None
    if held_out:
        # The same images whatever the seed, so that the validation of runs can be compared.
        order = np.random.default_rng(0).permutation(len(train_split.labels))
        kept, held = np.sort(order[held_out:]), np.sort(order[:held_out])
        train_split, validation = (_chosen(train_split, which) for which in (kept, held))
    for name in ("non_digits", "hands"):
        if getattr(config, name) and len(data.class_names) != 10:
            raise UsageError(
                f"--{name.replace('_', '-')} needs a data set of ten digits; {config.dataset} has "
                f"{len(data.class_names)} classes"
            )
    made = _non_digits(train_split, config)
    origin = (data.recorded, len(train_split.labels), held_out, len(made), len(made) and config.seed)
    return Splits(data.name, train_split, made, validation, test, data.class_names, origin)


def _chosen(split: Split, which: np.ndarray) -> Split:
    """Some examples of a split, in memory unless it is on disk."""
    images = split.images
    if isinstance(images, np.ndarray):
        shape = (len(which), *images.shape[1:])
        images = cache.aligned(math.prod(shape)).reshape(shape)
        np.take(split.images, which, axis=0, out=images, mode="clip")  # any other mode has a copy first
    else:
        images = images[which]
    return Split(images, split.labels[which])


def _non_digits(split: Split, config: TrainConfig) -> np.ndarray:
    """Images of no digit, as many as there are to be."""
    if not config.non_digits:
        return np.empty((0, *split.images.shape[1:]), np.uint8)
    return make_non_digits(*split, config.non_digits, config.seed)
