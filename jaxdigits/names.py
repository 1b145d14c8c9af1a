"""Which data sets there are, and what their labels mean.

What is known of a set without TensorFlow Datasets (TFDS) stands here; about any other, TFDS is asked.
"""

import difflib
from string import ascii_lowercase, ascii_uppercase, digits

from jaxdigits import records
from jaxdigits.errors import DataError, UsageError

__all__ = ["ALPHABETS", "NAMES", "check_preparable", "class_names"]

# EMNIST's official mappings; TFDS gives numbers only. Upper and lower case are merged where they look alike.
_MERGED = digits + ascii_uppercase + "abdefghnqrt"
ALPHABETS = {
    "mnist": digits,
    "emnist/balanced": _MERGED,
    "emnist/byclass": digits + ascii_uppercase + ascii_lowercase,
    "emnist/bymerge": _MERGED,
    "emnist/digits": digits,
    "emnist/letters": ascii_uppercase,
    "emnist/mnist": digits,
}

NAMES = ("mnist", "fashion_mnist", "kmnist", *(name for name in ALPHABETS if "/" in name))
"""The data sets that `dataset.load` prepares by itself."""


def check_preparable(name: str) -> None:
    """Makes sure that `dataset.load` prepares this data set by itself.

    Raises:
      UsageError: there is no such data set, or its images have another form.
      DataError: TFDS prepares it only with TensorFlow.
    """
    if name not in NAMES:
        class_names(name)
        raise DataError(
            f"TFDS prepares {name} only with TensorFlow: choose one of {', '.join(NAMES)}, "
            "or give the folder of its IDX files with --data-dir (data_dir=)"
        )


def class_names(name: str) -> tuple[str, ...]:
    """What the labels 0, 1, ... mean: EMNIST's mapping, or TFDS's specification of the set.

    Raises:
      UsageError: there is no such data set, or its images have another form.
    """
    if name in ALPHABETS:
        return tuple(ALPHABETS[name])
    near = [known for known in NAMES if known.startswith(f"{name}/")]
    try:
        if near:
            raise LookupError(name)
        classes = records.classes(name)
    except LookupError as error:
        near = near or difflib.get_close_matches(name.lower(), NAMES, n=1, cutoff=0.0)
        raise UsageError(
            f"unknown data set {name[:80]!r}: did you mean {near[0]!r}? jaxdigits.dataset.NAMES lists them: "
            f"{', '.join(NAMES)}"
        ) from error
    if classes is None:
        raise UsageError(
            f"expected a classification set of 28x28x1 images, found {name}; such are {', '.join(NAMES)}"
        )
    return classes
