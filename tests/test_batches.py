"""Batches of a data set: each example once an epoch, in an order that the seed decides."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdigits import dataset
from jaxdigits.errors import UsageError


@given(
    n=st.integers(1, 30),
    size=st.integers(1, 40),
    epochs=st.integers(0, 3),
    seed=st.none() | st.integers(0, 9),
    drop=st.booleans(),
)
def test_batches_hold_every_example_once_an_epoch(
    n: int, size: int, epochs: int, seed: int | None, drop: bool
):
    split = dataset.Split(np.arange(n, dtype=np.uint8)[:, None, None, None], np.arange(n, dtype=np.uint8))

    def labels() -> list[np.ndarray]:
        found = list(dataset.batches(split, size, epochs=epochs, seed=seed, drop_remainder=drop))
        assert all((batch["image"][:, 0, 0, 0] == batch["label"]).all() for batch in found)
        return [batch["label"] for batch in found]

    found = labels()
    an_epoch = n // size if drop else -(-n // size)
    assert len(found) == an_epoch * epochs
    assert all(map(np.array_equal, found, labels()))
    for epoch in range(epochs):
        seen = np.concatenate([np.empty(0, np.uint8), *found[epoch * an_epoch : (epoch + 1) * an_epoch]])
        assert len(set(seen.tolist())) == len(seen) == (n - n % size if drop else n)
        if seed is None:
            np.testing.assert_array_equal(seen, np.arange(len(seen)))


def test_epochs_are_shuffled_anew():
    split = dataset.Split(np.zeros((50, 28, 28, 1), np.uint8), np.arange(50, dtype=np.uint8))
    first, second = dataset.batches(split, 50, epochs=2, seed=0)
    assert not np.array_equal(first["label"], second["label"])
    (other,) = dataset.batches(split, 50, seed=1)
    assert not np.array_equal(first["label"], other["label"])


@pytest.mark.parametrize(("size", "epochs"), [(0, 1), (-1, 1), (8, -1)])
def test_batches_refuse_nonsense(size: int, epochs: int):
    with pytest.raises(UsageError, match="batch_size"):
        dataset.batches(
            dataset.Split(np.zeros((1, 28, 28, 1), np.uint8), np.zeros(1, np.uint8)), size, epochs=epochs
        )
