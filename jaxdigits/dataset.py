"""From the name of a TensorFlow Datasets (TFDS) set to uint8 arrays in memory, and from those to batches.

The first `load` of a set has its records prepared in this user's cache (`records`) and decodes them, once,
to one plain file a split; a later start reads these alone, verified, and never imports TFDS: whole, or, of
several processes that train together, as `Rows` of which each reads what it needs. A folder of IDX files
(`idx`) is read as it is, or for several processes decoded to such files as well. Which sets there are is left
to `names`; which batch goes to which device, and what is done to its pixels, to the training.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from jaxdigits import cache, names, records
from jaxdigits.errors import DataError, StorageError, UsageError, printable
from jaxdigits.idx import SIDE, conventional, folder_sum, read_folder
from jaxdigits.rows import Rows, row_sums
from jaxdigits.storage import cache_root, private_folder, write_json

__all__ = ["NAMES", "Dataset", "Split", "ahead", "announce", "batches", "lacking", "load", "tfds_source"]

NAMES = names.NAMES
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
    recorded: str
    """The SHA-256 of the training split: of its images, and then of its labels, as the cache has it."""


_Examples = Iterable[Iterable[tuple[np.ndarray, np.ndarray]]]
"""Images and labels, in as many parts as there may be, of the training and then of the test split."""


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


_under_way: "dict[Path, Future[Dataset | None]]" = {}  # reads of arrays, for whoever loads them next


@contextlib.contextmanager
def ahead(name: str) -> Iterator[None]:
    """Begins to read a data set from the cache, if it lies there, for the first `load` of it within this.

    To read MNIST and to verify it takes 60 ms or more of one core, without Python's lock: another is idle
    while the libraries that a training needs are imported.
    """
    place = None
    with ThreadPoolExecutor(max_workers=1) as pool:
        if name in NAMES:
            with contextlib.suppress(StorageError):  # which `load` meets as well
                place = _place(name, "arrays")
                _under_way[place] = pool.submit(_read_arrays, name, place, on_disk=False)
        try:
            yield
        finally:
            if place:
                _under_way.pop(place, None)


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
        nothing is cached but for `on_disk`. Without it, the examples are TFDS's, in TFDS's order, from the
        cache.
      on_disk: leaves the images on disk, as `Rows`, each of which is read and verified when it is needed.
        Since gzip cannot be read in part, the files of a folder are decoded into the cache, once; there
        they are found again by the SHA-256 of what they hold.
      say: takes a line for the user when something is prepared or mended.

    Returns:
      The data set. EMNIST's images are stored on their side and come upright here; the labels of
      `emnist/letters` are stored from 1 and count from 0 here.

    Raises:
      UsageError: there is no such data set, or its images have another form.
      DataError: a file is missing, damaged or of the wrong form, or cannot be downloaded.
      StorageError: the cache cannot be written.
    """
    if data_dir is None:
        names.check_preparable(name)
        arrays = _place(name, "arrays")
        return _cached(name, arrays, lambda: _examples_of_records(name, say), on_disk=on_disk)
    folder = Path(os.path.expanduser(data_dir))  # noqa: PTH111 (which raises for an unknown user)
    classes = names.class_names(name)
    if on_disk:
        return _cached_folder(name, folder, len(classes), say)
    train, test = (Split(*pair) for pair in read_folder(name, folder, len(classes)))
    recorded = hashlib.sha256(train.images.data)
    recorded.update(train.labels.data)
    return Dataset(name, train, test, classes, recorded.hexdigest())


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
    names.check_preparable(name)
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


# The cache: TFDS's records, and the arrays decoded from them or from a folder's files.


def _place(name: str, kind: str) -> Path:
    """Where the `records` or the `arrays` of a data set lie; the folder above is made."""
    return private_folder(cache_root() / "datasets") / f"{name.replace('/', '-')}-{kind}"


def _ensure_records(name: str, say: Callable[[str], None], *, for_arrays: bool = False) -> Path:
    """Makes sure that TFDS's records of `name` are whole; says why they, or the arrays, are prepared."""
    folder = _place(name, "records")
    whole = cache.intact(folder)
    if whole and not for_arrays:
        return folder
    announce(name, say)
    if not whole:
        cache.install(folder, lambda new: records.prepare(name, new))
    return folder


def lacking(name: str) -> bool:
    """Whether nothing is there of the arrays of a data set that `load` would read from the cache."""
    try:
        return not os.path.lexists(_place(name, "arrays"))
    except StorageError:  # which `load` meets as well
        return False


def announce(name: str, say: Callable[[str], None]) -> None:
    """Says that a data set is prepared, or prepared again, and why."""
    origin = "the packaged files (once, about 8 s)" if name == "mnist" else "TFDS's download (once)"
    _announce(name, origin, say, _place(name, "records"), _place(name, "arrays"))


def _announce(name: str, origin: str, say: Callable[[str], None], *folders: Path) -> None:
    """Says that these folders of the cache are prepared, or that they are prepared again, and why."""
    if any(map(os.path.lexists, folders)):
        say(f"The cache of {name} in {folders[0].parent} is damaged or incomplete: preparing it again ...")
    else:
        say(f"Preparing {name} from {origin} ...")


def _examples_of_records(name: str, say: Callable[[str], None]) -> _Examples:
    """TFDS's examples, in TFDS's order, from records that are whole by then."""
    folder = _ensure_records(name, say, for_arrays=True)

    def read(split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return (conventional(name, *some) for some in records.examples(name, split, folder))

    return map(read, ("train", "test"))


def _cached(name: str, arrays: Path, examples: Callable[[], _Examples], *, on_disk: bool) -> Dataset:
    """The data set that lies in this folder of the cache, written from the examples if it must be."""
    if not on_disk and arrays in _under_way and (dataset := _under_way.pop(arrays).result()):
        return dataset
    for _ in range(3):  # another process may be replacing the same folder
        if dataset := _read_arrays(name, arrays, on_disk=on_disk):
            return dataset
        cache.install(arrays, functools.partial(_write_arrays, name, examples()))
    raise StorageError(f"{arrays} does not keep what is written to it; set JAXDIGITS_CACHE to another folder")


def _cached_folder(name: str, folder: Path, classes: int, say: Callable[[str], None]) -> Dataset:
    """The data set that lies in a folder of IDX files, read from a copy in the cache, images on disk."""
    key = folder_sum(name, folder)
    arrays = _place(f"{name}-folder-{key[:16]}", "arrays")

    def examples() -> _Examples:
        _announce(name, f"{printable(str(folder))} (once)", say, arrays)
        pairs = read_folder(name, folder, classes)
        if folder_sum(name, folder) != key:  # the copy would be found again under the sum of other files
            raise DataError(
                f"{folder}: expected files at rest, found them changed while being read; start again"
            )
        return [[pair] for pair in pairs]

    return _cached(name, arrays, examples, on_disk=True)


def _write_arrays(name: str, examples: _Examples, folder: Path) -> None:
    """Writes the examples of both splits, in their order, and the class names as plain files.

    Beside each split lie the checksums of its images one by one, and of all of its labels.
    """
    for split, parts in zip(("train", "test"), examples, strict=True):
        all_labels, sums = [], []
        with (folder / f"{split}.u8").open("wb") as file:  # n * 784 bytes of pixels, then n labels
            for images, labels in parts:
                file.write(images.data)
                all_labels.append(labels)
                sums.append(row_sums(images))
            labels = np.concatenate(all_labels)
            file.write(labels.data)
        (folder / f"{split}.sums").write_bytes(np.concatenate([*sums, row_sums(labels[None])]).data)
    write_json(folder / "classes.json", names.class_names(name))


def _read_arrays(name: str, folder: Path, *, on_disk: bool) -> Dataset | None:
    """What `_write_arrays` wrote, or None where any of it is missing or damaged."""
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
        known = tuple(names.ALPHABETS.get(name, classes))
        if classes != known or not all(isinstance(word, str) and word.isprintable() for word in classes):
            raise ValueError("classes.json")
        return Dataset(name, split("train"), split("test"), classes, recorded["train.u8"][1])
    except (*cache.DAMAGE, DataError):
        return None
