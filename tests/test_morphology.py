"""Shapes in a picture, each compared with its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdigits.morphology import (
    closed,
    components,
    dilated,
    eroded,
    histogram,
    opened,
    quantiles,
    resized,
    smoothed,
    stroke_width,
    thickened,
)

SEEDS = st.integers(0, 2**32 - 1)


def picture(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, random.integers(1, 40, 2), np.uint8)


@given(SEEDS, st.integers(0, 6), st.integers(0, 6))
@settings(max_examples=50, deadline=None)
def test_the_extremes_of_a_window(seed: int, up: int, across: int):
    values = picture(seed)
    height, width = values.shape
    up, across = min(up, height), min(across, width)
    window = (2 * up + 1, 2 * across + 1)
    high, low = dilated(values, window), eroded(values, window)
    for y, x in np.random.default_rng(seed).integers(0, values.shape, (10, 2)):
        part = values[max(0, y - up) : y + up + 1, max(0, x - across) : x + across + 1]
        assert (high[y, x], low[y, x]) == (part.max(), part.min())
    assert (eroded(~values, window) == ~high).all()


@given(SEEDS, st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_closing_fills_and_opening_takes_away(seed: int, window: int):
    values = picture(seed)
    assert (closed(values, window) >= values).all()
    assert (opened(values, window) <= values).all()
    again = closed(values, window)
    assert (closed(again, window) == again).all()


def neighbours(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """The connected shapes of a mask, by walking from pixel to pixel."""
    left = set(zip(*np.nonzero(mask), strict=True))
    shapes = []
    while left:
        shape, edge = set(), [left.pop()]
        while edge:
            y, x = edge.pop()
            shape.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            edge += near
        shapes.append(shape)
    return shapes


@given(SEEDS, st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_components_are_connected_and_apart(seed: int, share: float):
    mask = picture(seed) < 256 * share
    found, expected = components(mask), neighbours(mask)
    assert len(found) == len(expected)
    masks = [found.mask(np.arange(len(found)) == index) for index in range(len(found))]
    assert {frozenset(zip(*np.nonzero(one), strict=True)) for one in masks} == set(map(frozenset, expected))
    assert (found.mask(np.ones(len(found), bool)) == mask).all()
    for one, area, (top, left, bottom, right) in zip(masks, found.areas, found.boxes, strict=True):
        assert one.sum() == area == one[top:bottom, left:right].sum()
        assert one[top].any()
        assert one[bottom - 1].any()
        assert one[:, left].any()
        assert one[:, right - 1].any()


def bar(width: float, length: float, angle: float) -> np.ndarray:
    """A stroke with soft edges, uint8 [120, 120]."""
    y, x = np.mgrid[:120, :120] - 60
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    share = np.clip(width / 2 + 0.5 - abs(across), 0, 1) * np.clip(length / 2 + 0.5 - abs(along), 0, 1)
    return np.rint(255 * share).astype(np.uint8)


@pytest.mark.parametrize("angle", [0, 0.3, 0.8])
@pytest.mark.parametrize("width", [3, 5, 10, 16])
def test_the_width_of_a_stroke_and_how_it_changes(width: int, angle: float):
    stroke = bar(width, 70, angle)
    assert stroke_width(stroke) == pytest.approx(width, rel=0.08, abs=0.2)
    for radius in (-0.2 * width, 0.5, 1, 2.3, 4):
        assert stroke_width(thickened(stroke, radius)) == pytest.approx(width + 2 * radius, rel=0.15, abs=0.7)


def test_no_ink_has_no_width():
    assert stroke_width(np.zeros((5, 5), np.uint8)) == 0


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (199, 201), (200, 201), (1, 40_000), (320, 260)])
def test_a_histogram_counts_every_level(shape: tuple[int, int]):
    values = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for part in (values, values[::2], values[:, ::2]):
        assert histogram(part).tolist() == [(part == level).sum() for level in range(256)]


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_quantiles_are_levels_with_so_many_below(seed: int):
    values = picture(seed)
    for share in (0.1, 0.5, 0.9):
        (level,) = quantiles(histogram(values), share)
        assert (values < level).mean() <= share <= (values <= level).mean()


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_smoothing_and_other_sizes_keep_the_mean(seed: int):
    values = np.pad(picture(seed), 4)
    assert abs(smoothed(values).sum() / 1.0 - values.sum()) <= values.size
    half = resized(values.repeat(2, 0).repeat(2, 1), *values.shape)
    assert (half == values).all()
    assert resized(values, *values.shape) is values
    assert resized(values, 50, 60).shape == (50, 60)
