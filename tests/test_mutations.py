"""The mutations and the soak in their quick form, and that they see what they look for."""

import contextlib
import gc
import mmap
import sys
import time
from pathlib import Path

import pytest

from benchmarks import mutations, soak
from benchmarks.hostile import READERS, Reader
from jaxdigits.errors import DataError

QUICK = {"joint": 40, "pages": 20, "commands": 20, "flags": 60}


@pytest.mark.parametrize("name", READERS)
def test_every_reader_answers_or_refuses_in_one_line(name: str):
    figures = mutations.check(name, QUICK.get(name, 150), seed=7)
    assert figures["offences"] == []
    assert figures["inputs"] == figures["read"] + figures["refused"] > QUICK.get(name, 150)
    assert figures["read"] > 0
    assert figures["refused"] > 5


def test_the_full_form_has_more_than_twenty_thousand_inputs():
    assert sum(reader.full for reader in READERS.values()) > 20_000


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: sys.exit(1), "SystemExit"),
        (lambda: time.sleep(0.2), " s"),
        (lambda: bytearray(2**62), "MemoryError"),
    ],
)
def test_what_must_not_happen_is_seen(monkeypatch: pytest.MonkeyPatch, wrong, expected: str):
    monkeypatch.setattr(mutations, "SECONDS", 0.1)

    def read(item: int, _: Path) -> None:
        if item == 30:
            wrong()
        raise DataError("refused")

    monkeypatch.setitem(READERS, "wrong", Reader(lambda _n, _seed: range(40), read, 40, 1))
    figures = mutations.check("wrong", 40)
    assert [expected in one["error"] for one in figures["offences"]] == [True]
    assert figures["inputs"] == 60


def test_the_same_seed_gives_the_same_inputs():
    for name in ("idx", "cache", "config", "model", "checkpoint", "flags"):
        inputs = [list(READERS[name].inputs(30, seed)) for seed in (1, 1, 2)]
        assert inputs[0] == inputs[1] != inputs[2]
        assert len(inputs[0]) == 30


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells")
def test_a_leak_is_seen():
    with contextlib.ExitStack() as files:
        gc.freeze()  # what was there before need not be gone through for every sample
        files.callback(gc.unfreeze)
        kept: list[mmap.mmap] = []  # memory of the system's own: freed memory would be found again

        def leak(_: int) -> None:
            files.enter_context(Path("/dev/null").open())
            kept.append(mmap.mmap(-1, 1_000_000))
            kept[-1].write(bytes(1_000_000))

        for work, leaks in ((lambda _: bytearray(1_000_000), False), (leak, True)):
            growth = soak.grown(list(soak.watched(work, 40)))
            assert (growth["mebibytes"] > 10, growth["files"] > 10) == (leaks, leaks)
    with pytest.raises(ValueError, match="at least 5"):
        soak.grown([])


def test_a_round_of_predictions_of_every_kind():
    soak.mixed_predictions()(0)
