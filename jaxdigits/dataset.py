"""From the name of a TensorFlow Datasets (TFDS) set to uint8 arrays in memory, and from those to batches.

The first `load` of a set has its records prepared in this user's cache (`records`) and decodes them, once,
to one plain file a split; a later start reads these alone, verified, and never imports TFDS: whole, or, of
several processes that train together, as `Rows` of which each reads what it needs. A folder of
IDX files (`idx`) is read as it is. Which batch goes to which device, and what is done to its pixels, is
left to the training.
"""

import dataclasses
import difflib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Any, NamedTuple, cast

import numpy as np

from jaxdigits import cache, records
from jaxdigits.errors import DataError, StorageError, UsageError
from jaxdigits.idx import SIDE, conventional, read_folder
from jaxdigits.rows import Rows, row_sums
from jaxdigits.storage import cache_root, private_folder, write_json

__all__ = ["NAMES", "Dataset", "Split", "batches", "load", "tfds_source"]

# EMNIST's official mappings; TFDS gives numbers only. Upper and lower case are merged where they look alike.
_MERGED = digits + ascii_uppercase + "abdefghnqrt"
_ALPHABETS = {
    "mnist": digits,
    "emnist/balanced": _MERGED,
    "emnist/byclass": digits + ascii_uppercase + ascii_lowercase,
    "emnist/bymerge": _MERGED,
    "emnist/digits": digits,
    "emnist/letters": ascii_uppercase,
    "emnist/mnist": digits,
}

NAMES = ("mnist", "fashion_mnist", "kmnist", *(name for name in _ALPHABETS if "/" in name))
"""The data sets that `load` prepares by itself."""


class Split(NamedTuple):
    """The training or the test part of a data set."""

    images: np.ndarray
    """uint8 [n, 28, 28, 1], upright; 0 is the background. `Rows` on disk, where they were asked for."""
    labels: np.ndarray
    """uint8 [n], each an index into the data set's `class_names`."""


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A data set: both splits, and what the labels mean."""

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    recorded: str | None = None
    """The SHA-256 that the cache has of the training split: of its images, and then of its labels."""


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def load(
    name: str = "mnist",
    data_dir: str | os.PathLike[str] | None = None,
    *,
    on_disk: bool = False,
    say: Callable[[str], None] = _to_stderr,
) -> Dataset:
    """Loads a data set of 28x28 grey images.

    Args:
      name: a TFDS name, one of `NAMES`; with `data_dir`, any TFDS classification set of 28x28x1 images,
        whose classes the labels then have.
      data_dir: a folder with the set's four IDX files, or your own in the same form, each plain or
        gzipped: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte`,
        `t10k-labels-idx1-ubyte`. They are read directly, in about 0.3 s, in the order they have, and
        nothing is cached. Without it, the examples are TFDS's, in TFDS's order, from the cache.
      on_disk: leaves the images of a set from the cache on disk, as `Rows`, each of which is read and
        verified when it is needed. The files of a folder are read whole all the same, since gzip cannot be
        read in part.
      say: takes a line for the user when something is prepared or mended.

    Returns:
      The data set. EMNIST's images are stored on their side and come upright here; the labels of
      `emnist/letters` are stored from 1 and count from 0 here.

    Raises:
      UsageError: there is no such data set, or its images have another form.
      DataError: a file is missing, damaged or of the wrong form, or cannot be downloaded.
      StorageError: the cache cannot be written.
    """
    if data_dir is not None:
        classes = _class_names(name)
        folder = Path(os.path.expanduser(data_dir))  # noqa: PTH111 (which raises for an unknown user)
        train, test = read_folder(name, folder, len(classes))
        return Dataset(name, Split(*train), Split(*test), classes)
    _check_preparable(name)
    arrays = _place(name, "arrays")
    for _ in range(3):  # another process may be replacing the same folder
        if dataset := _read_arrays(name, arrays, on_disk=on_disk):
            return dataset
        source = _ensure_records(name, say, for_arrays=True)
        cache.install(arrays, lambda new, source=source: _decode(name, source, new))
    raise StorageError(f"{arrays} does not keep what is written to it; set JAXDIGITS_CACHE to another folder")


def tfds_source(name: str = "mnist", split: str = "train", *, say: Callable[[str], None] = _to_stderr) -> Any:
    """Opens the TFDS data source that `load` decodes, for a loop of your own.

    Args:
      name: one of `NAMES`.
      split: `train` or `test`, or a slice in TFDS's notation such as `train[:10%]`.
      say: takes a line for the user when something is prepared or mended.

    Returns:
      A `tfds.core.DataSource`-like sequence of dictionaries as TFDS defines them: `image`, uint8
      [28, 28, 1], and `label`, an int; EMNIST's are on their side. Hand it to `batches`, to Grain or
      to PyTorch.

    Raises:
      UsageError: there is no such data set or split.
      DataError: the data set's files cannot be had.
      StorageError: the cache cannot be written.
    """
    _check_preparable(name)
    folder = _ensure_records(name, say)
    try:
        return records.open_split(name, split, folder)
    except ValueError as error:
        raise UsageError(f"TFDS does not know the split {split!r} of {name}: use train or test") from error


def batches(
    source: Split | Sequence[Any],
    batch_size: int,
    *,
    epochs: int = 1,
    seed: int | None = None,
    drop_remainder: bool = False,
) -> Iterator[dict[str, np.ndarray]]:
    """Cuts a split of a `Dataset`, or a TFDS data source, into batches.

    Example:
      >>> for batch in batches(tfds_source("mnist", "train"), 128, seed=0):  # doctest: +SKIP
      ...     train_step(state, batch["image"], batch["label"])

    Args:
      source: a `Split`, from memory; or what `tfds_source` returns, decoded example by example.
      batch_size: examples in a batch, at least 1.
      epochs: how often every example comes.
      seed: shuffles each epoch anew; the same seed gives the same order. None keeps the order.
      drop_remainder: whether the last batch of an epoch is left out where it is not full.

    Returns:
      An iterator over dictionaries: `image`, uint8 [b, 28, 28, 1], and `label`, uint8 [b].

    Raises:
      UsageError: `batch_size` is below 1 or `epochs` below 0.
    """
    if batch_size < 1 or epochs < 0:
        raise UsageError(
            f"batch_size must be at least 1 and epochs at least 0, not {batch_size} and {epochs}"
        )

    def generate() -> Iterator[dict[str, np.ndarray]]:
        random = None if seed is None else np.random.default_rng(seed)
        n = len(source.labels) if isinstance(source, Split) else len(source)
        end = n - n % batch_size if drop_remainder else n
        for _ in range(epochs):
            order = np.arange(n) if random is None else random.permutation(n)
            for start in range(0, end, batch_size):
                yield _gather(source, order[start : start + batch_size])

    return generate()


def _gather(source: Any, index: np.ndarray) -> dict[str, np.ndarray]:
    """The examples at these positions, as one batch."""
    if isinstance(source, Split):
        return {"image": source.images[index], "label": source.labels[index]}
    examples = source.__getitems__(index.tolist())
    return {
        "image": np.stack([example["image"] for example in examples]),
        "label": np.array([example["label"] for example in examples], np.uint8),
    }


# What the labels mean.


def _check_preparable(name: str) -> None:
    """Raises the right error where `load` cannot prepare `name` by itself."""
    if name not in NAMES:
        _class_names(name)
        raise DataError(
            f"TFDS prepares {name} only with TensorFlow: choose one of {', '.join(NAMES)}, "
            "or give the folder of its IDX files with --data-dir (data_dir=)"
        )


def _class_names(name: str) -> tuple[str, ...]:
    """What the labels 0, 1, ... mean: EMNIST's mapping, or TFDS's specification of the set."""
    if name in _ALPHABETS:
        return tuple(_ALPHABETS[name])
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


# The cache: TFDS's records, and the arrays decoded from them.


def _place(name: str, kind: str) -> Path:
    """Where the `records` or the `arrays` of a data set lie; the folder above is made."""
    return private_folder(cache_root() / "datasets") / f"{name.replace('/', '-')}-{kind}"


def _ensure_records(name: str, say: Callable[[str], None], *, for_arrays: bool = False) -> Path:
    """Makes sure that TFDS's records of `name` are whole; says why they, or the arrays, are prepared."""
    folder, arrays = _place(name, "records"), _place(name, "arrays")
    whole = cache.intact(folder)
    if whole and not for_arrays:
        return folder
    if os.path.lexists(folder) or os.path.lexists(arrays):
        say(f"The cache of {name} in {folder.parent} is damaged or incomplete: preparing it again ...")
    else:
        origin = "the packaged files (once, about 8 s)" if name == "mnist" else "TFDS's download (once)"
        say(f"Preparing {name} from {origin} ...")
    if not whole:
        cache.install(folder, lambda new: records.prepare(name, new))
    return folder


def _decode(name: str, source: Path, folder: Path) -> None:
    """Writes the examples of both splits, in TFDS's order, and the class names as plain files.

    Beside each split lie the checksums of its images one by one, and of all of its labels.
    """
    for split in ("train", "test"):
        parts, sums = [], []
        with (folder / f"{split}.u8").open("wb") as file:  # n * 784 bytes of pixels, then n labels
            for batch in batches(records.open_split(name, split, source), 1000):
                images, labels = conventional(name, batch["image"], batch["label"])
                file.write(images.data)
                parts.append(labels)
                sums.append(row_sums(images))
            labels = np.concatenate(parts)
            file.write(labels.data)
        (folder / f"{split}.sums").write_bytes(np.concatenate([*sums, row_sums(labels[None])]).data)
    write_json(folder / "classes.json", _class_names(name))


def _read_arrays(name: str, folder: Path, *, on_disk: bool) -> Dataset | None:
    """What `_decode` wrote, or None where any of it is missing or damaged."""
    try:
        recorded = cache.recorded(folder)
        kind = "sums" if on_disk else "u8"
        files = dict(cache.contents(folder, "classes.json", f"train.{kind}", f"test.{kind}"))

        def split(part: str) -> Split:
            size, content = recorded[f"{part}.u8"][0], files[f"{part}.{kind}"]
            n, odd = divmod(size, SIDE * SIDE + 1)
            shape = (n, SIDE, SIDE, 1)
            if on_disk:
                sums, file = content.reshape(-1, 32), f"{part}.u8"
                images = cast(np.ndarray, Rows(folder, file, size, shape, sums[:-1]))  # it stands for one
                labels = np.asarray(Rows(folder, file, size, (1, n), sums[-1:], start=size - n))[0]
            else:
                images, labels = content[: size - n].reshape(shape), content[size - n :]
            if odd or not n or labels.max() >= len(classes):
                raise ValueError(part)
            return Split(images, labels)

        classes = tuple(json.loads(files["classes.json"].tobytes()))
        known = tuple(_ALPHABETS.get(name, classes))
        if classes != known or not all(isinstance(word, str) and word.isprintable() for word in classes):
            raise ValueError("classes.json")
        return Dataset(name, split("train"), split("test"), classes, recorded["train.u8"][1])
    except (*cache.DAMAGE, DataError):
        return None
