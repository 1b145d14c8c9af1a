"""Where seconds are counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdigits.clock import Clock


@given(seconds=st.floats(0, 1e6))
def test_seconds_that_move_are_neither_lost_nor_won(seconds: float):
    clock = Clock(0.0)
    clock.lap("compile")
    clock.lap("train")
    before = dict(clock.seconds)
    clock.move("compile", "train", seconds)
    assert sum(clock.seconds.values()) == pytest.approx(sum(before.values()))
    assert clock.seconds["compile"] >= 0
    assert clock.seconds["train"] - before["train"] == pytest.approx(min(seconds, before["compile"]))
