"""A cache of images of a test's own, decoded as TFDS's are, without TFDS."""

from pathlib import Path

import numpy as np
import pytest

from jaxdigits import dataset, records
from jaxdigits.dataset import Split


class Source:
    """Examples in the form in which TFDS gives them."""

    def __init__(self, split: Split):
        self._split = split

    def __len__(self) -> int:
        return len(self._split.labels)

    def __getitems__(self, indices: list[int]) -> list[dict[str, np.ndarray]]:
        return [{"image": self._split.images[i], "label": self._split.labels[i]} for i in indices]


def install(patch: pytest.MonkeyPatch, root: Path, train: Split, test: Split) -> Path:
    """Makes `root` the cache, with these images as those of MNIST; returns where their files are."""
    splits = {"train": train, "test": test}
    patch.setenv("JAXDIGITS_CACHE", str(root))
    patch.setattr(records, "open_split", lambda _name, split, _folder: Source(splits[split]))
    patch.setattr(records, "prepare", lambda _name, folder: (folder / "record").write_bytes(b"record"))
    dataset.load(say=lambda _: None)
    return dataset._place("mnist", "arrays")
