"""The images of a run: what it trains on, what it holds out, what it tests on."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable

import numpy as np

from jaxdigits import dataset as datasets
from jaxdigits.config import TrainConfig
from jaxdigits.dataset import Dataset, Split

__all__ = ["Splits", "load_splits"]

_SMOKE = (2048, 1024)  # training and test images of a smoke run


@dataclasses.dataclass(frozen=True)
class Splits:
    """A data set as a run uses it.

    Attributes:
      name: of the data set.
      train: the images to train on.
      validation: held out of them, or None.
      test: read once, at the end.
      class_names: a name for each class.
    """

    name: str
    train: Split
    validation: Split | None
    test: Split
    class_names: tuple[str, ...]

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256 of the images to train on and of their labels, in hexadecimal."""
        digest = hashlib.sha256()
        for array in self.train:
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def load_splits(config: TrainConfig, say: Callable[[str], None]) -> Splits:
    """Loads the data set and takes the validation images out of its training split.

    Args:
      config: which set, and how many images to hold out.
      say: called with lines for people.

    Raises:
      DataError: the data set cannot be had, or is damaged.
    """
    data: Dataset = datasets.load(config.dataset, config.data_dir, say=say)
    train_split, test = data.train, data.test
    if config.smoke:
        train_split, test = (
            Split(*(a[:n] for a in s)) for s, n in zip((train_split, test), _SMOKE, strict=True)
        )
    held_out = min(config.validation, len(train_split.labels) // 4)
    if not held_out:
        return Splits(data.name, train_split, None, test, data.class_names)
    # The same images whatever the seed, so that the validation of runs can be compared.
    order = np.random.default_rng(0).permutation(len(train_split.labels))
    kept, held = np.sort(order[held_out:]), np.sort(order[:held_out])
    return Splits(
        data.name,
        Split(*(a[kept] for a in train_split)),
        Split(*(a[held] for a in train_split)),
        test,
        data.class_names,
    )
