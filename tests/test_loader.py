"""Many pictures at once: in order, prepared by threads and processes, with those that fail among them."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxdigits import loader
from jaxdigits.worker import Worker
from tests.drawings import drawing, encoded


@pytest.fixture(scope="module")
def digits(mnist) -> np.ndarray:
    return mnist.test.images[:200, :, :, 0]


def test_many_come_in_order_with_those_that_fail_among_them(digits):
    files = [encoded(digit) for digit in digits[:100]]
    for bad in (0, 17, 99):
        files[bad] = b"nothing"
    several = list(loader.load(files, threads=3))
    assert [one.name for one in several] == [f"bytes {i}" for i in range(100)]
    assert [i for i, one in enumerate(several) if one.error] == [0, 17, 99]
    for i, one in enumerate(several):
        if not one.error:
            np.testing.assert_array_equal(one.image, digits[i])


def test_no_more_is_read_ahead_than_keeps_the_threads_busy(digits):
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield digits[0]

    for _ in itertools.islice(loader.load(endless(), threads=2), 50):
        pass
    assert 50 <= taken <= 300


def test_an_error_of_the_generator_itself_comes_through(digits):
    def breaks():
        yield digits[0]
        yield digits[1]
        raise RuntimeError("of the caller")

    with pytest.raises(RuntimeError, match="of the caller"):
        list(loader.load(breaks()))


@pytest.fixture(scope="module")
def many_files(tmp_path_factory, digits) -> Path:
    """Enough files for worker processes, one of them bad."""
    folder = tmp_path_factory.mktemp("many")
    for i in range(200):
        (folder / f"{i:03d}.png").write_bytes(encoded(drawing(digits[i], 3, (100, 100), (9, 5))))
    (folder / "190.png").write_bytes(b"nothing")
    return folder


def test_workers_do_what_is_done_here(many_files):
    here, elsewhere = (list(loader.load(many_files, threads=n)) for n in (1, 2))
    assert len(here) == len(elsewhere) == 200
    for one, other in zip(here, elsewhere, strict=True):
        assert (one.name, one.blank, one.note, str(one.error)) == (
            other.name,
            other.blank,
            other.note,
            str(other.error),
        )
        np.testing.assert_array_equal(one.image, other.image)
    assert [one.error is not None for one in elsewhere].index(True) == 190
    assert elsewhere[199].image.flags.writeable


def test_without_workers_all_goes_on(many_files, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert len(list(loader.load(many_files, threads=2))) == 200


def test_a_worker_answers_and_ends(many_files):
    worker = Worker()
    names = [str(many_files / "000.png"), str(many_files / "missing.png")]
    for _ in range(2):
        good, bad = worker.load(names, "auto", False)
        assert good.image.any()
        assert "missing.png: cannot read" in str(bad.error)
    worker.close()
    with pytest.raises((OSError, ValueError)):
        worker.load(names, "auto", False)
