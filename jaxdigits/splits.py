"""The images of a run: what it trains on, what it holds out, what it tests on."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable

import numpy as np

from jaxdigits import dataset as datasets
from jaxdigits.config import TrainConfig
from jaxdigits.dataset import Dataset, Split
from jaxdigits.errors import UsageError
from jaxdigits.nondigits import make_non_digits

__all__ = ["Splits", "load_splits"]

_SMOKE = (2048, 1024)  # training and test images of a smoke run


@dataclasses.dataclass(frozen=True)
class Splits:
    """A data set as a run uses it.

    Attributes:
      name: of the data set.
      train: the images to train on.
      taught: these, and behind them images of no digit, if there are to be any.
      validation: held out of them, or None.
      test: read once, at the end.
      class_names: a name for each class.
    """

    name: str
    train: Split
    taught: Split
    validation: Split | None
    test: Split
    class_names: tuple[str, ...]

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256 of all that is trained on, images and labels, in hexadecimal."""
        digest = hashlib.sha256()
        for array in self.taught:
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def load_splits(config: TrainConfig, say: Callable[[str], None]) -> Splits:
    """Loads the data set and takes the validation images out of its training split.

    Args:
      config: which set, and how many images to hold out.
      say: called with lines for people.

    Raises:
      DataError: the data set cannot be had, or is damaged.
      UsageError: images of no digit are asked for, and the set is not one of digits.
    """
    data: Dataset = datasets.load(config.dataset, config.data_dir, say=say)
    train_split, test = data.train, data.test
    if config.smoke:
        train_split, test = (
            Split(*(a[:n] for a in s)) for s, n in zip((train_split, test), _SMOKE, strict=True)
        )
    held_out, validation = min(config.validation, len(train_split.labels) // 4), None
    if held_out:
        # The same images whatever the seed, so that the validation of runs can be compared.
        order = np.random.default_rng(0).permutation(len(train_split.labels))
        kept, held = np.sort(order[held_out:]), np.sort(order[:held_out])
        train_split, validation = (Split(*(a[chosen] for a in train_split)) for chosen in (kept, held))
    taught = _with_non_digits(train_split, config, len(data.class_names))
    return Splits(data.name, train_split, taught, validation, test, data.class_names)


def _with_non_digits(split: Split, config: TrainConfig, classes: int) -> Split:
    """The training images, and behind them those of no digit, as a class of their own."""
    if not config.non_digits:
        return split
    if classes != 10:
        raise UsageError(
            f"--non-digits needs a data set of ten digits; {config.dataset} has {classes} classes"
        )
    made = make_non_digits(*split, config.non_digits, config.seed)
    labels = np.full(len(made), classes, split.labels.dtype)
    return Split(np.concatenate([split.images, made]), np.concatenate([split.labels, labels]))
