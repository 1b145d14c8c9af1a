"""Where on a page the ink lies: connected components, lines of writing, and places to cut what touches.

Everything here is geometry on ink; nothing knows what a digit looks like. `reading` has the
recogniser choose among the segments that are proposed here. Coordinates are pixels, boxes are
(left, top, right, bottom) with the right and the bottom just outside.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxdigits.morphology import components

__all__ = ["Atom", "Strokes", "atoms_of", "lines_of", "strokes_of"]

_SEAM_ROWS = 48  # rows: components are cut at about this resolution; seams need no more
_SIDEWAYS = 0.15  # cost of a diagonal step of a seam, where crossing a pixel of ink costs 1
_DEEPEST_CUT = 3.0  # stroke widths: a seam through more ink than this separates no two digits
_LEAST_PART = 0.45  # of height times stroke width: less ink than this on one side of a seam is no part
_NARROWEST = 0.4  # of the line's height: two digits that touch are wider than this
_SPECK = 0.2  # of the height of the page's digits: lower and narrower components are specks
_WHOLE = 0.7  # of the height of the page's digits: what is lower may be a part of one
_NEIGHBOUR = 2.2  # ratio of heights beyond which a component next to a taller one is no digit of its own


class Strokes(NamedTuple):
    """The ink of a page, by connected component."""

    labels: Int[np.ndarray, "h w"]
    """Which component a pixel belongs to; -1 is paper."""
    boxes: Int[np.ndarray, "n 4"]
    """Left, top, right and bottom of each."""
    width: float
    """The median length of a horizontal run of ink, in pixels: about a stroke's width."""


@dataclasses.dataclass(frozen=True, eq=False)
class Atom:
    """A piece of ink that belongs to one digit as a whole: a component, or a part of one between cuts.

    Attributes:
      component: the component's index.
      box: of the piece.
      mask: bool [bottom - top, right - left], the piece's pixels within its box.
      cut: ink crossed by the seam to the next atom, in stroke widths; None where another component follows.
    """

    component: int
    box: tuple[int, int, int, int]
    mask: np.ndarray
    cut: float | None = None


def strokes_of(mask: Bool[np.ndarray, "h w"]) -> Strokes:
    """The connected components of a mask of ink, 8-connected."""
    shapes = components(mask)
    lengths = shapes.stops - shapes.starts
    labels = np.full(mask.shape, -1, np.int32)
    labels[mask] = np.repeat(shapes.labels, lengths)
    return Strokes(labels, shapes.boxes[:, [1, 0, 3, 2]], float(np.median(lengths)) if len(shapes) else 0.0)


# ---- lines ----


def lines_of(found: Strokes) -> list[tuple[list[int], float]]:
    """Groups components into lines of writing, from top to bottom.

    Returns:
      For each line the indices of its components, from left to right by their middles, and the height of
      its digits in pixels. Specks are in no line; points, commas and broken-off strokes are in theirs.
    """
    if not len(found.boxes):
        return []
    boxes = found.boxes.astype(float)
    sizes = np.maximum(boxes[:, 3] - boxes[:, 1], 0.5 * (boxes[:, 2] - boxes[:, 0]))
    typical = _weighted_median(sizes, sizes**3)  # cubed: dust is many but tiny
    large = np.flatnonzero(sizes >= max(_SPECK * typical, 3))
    tall = [i for i in large.tolist() if not _beside_a_taller_one(i, large, boxes, sizes)]
    lines: list[list[int]] = []
    # Whole digits first: the halves of a broken one would begin two lines.
    for i in sorted(tall, key=lambda i: (sizes[i] < _WHOLE * typical, boxes[i, 0])):
        _join(lines, i, boxes)
    heights = [float(np.median(sizes[line])) for line in lines]
    for i in np.setdiff1d(large, tall).tolist():
        nearest = _line_around(i, lines, heights, boxes)
        if nearest is not None and sizes[i] >= _SPECK / 2 * heights[nearest]:
            lines[nearest].append(i)
    middle = (boxes[:, 0] + boxes[:, 2]) / 2
    ordered = [
        (sorted(line, key=lambda i: middle[i]), height) for line, height in zip(lines, heights, strict=True)
    ]
    return sorted(ordered, key=lambda line: float(np.median(boxes[line[0]][:, [1, 3]])))


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def _beside_a_taller_one(i: int, others: np.ndarray, boxes: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether a component stands in the line of one so much taller that it is no digit there itself."""
    left, top, right, bottom = boxes[i]
    reach = sizes[others]
    taller = reach > _NEIGHBOUR * sizes[i]
    near = (boxes[others, 0] - right < 2 * reach) & (left - boxes[others, 2] < 2 * reach)
    level = (top < boxes[others, 3] + 0.2 * reach) & (bottom > boxes[others, 1] - 0.2 * reach)
    return bool((taller & near & level).any())


def _join(lines: list[list[int]], i: int, boxes: np.ndarray) -> None:
    """Appends a component to the line whose members near it stand at its level, or begins one with it."""
    best, most = None, 0.4  # of the lower one's height
    for line in lines:
        near = sorted(line, key=lambda other: abs(boxes[other, 0] - boxes[i, 0]))[:3]
        top, bottom = np.median(boxes[near, 1]), np.median(boxes[near, 3])
        shared = min(bottom, boxes[i, 3]) - max(top, boxes[i, 1])
        share = shared / max(min(bottom - top, boxes[i, 3] - boxes[i, 1]), 1)
        if share > most:
            best, most = line, share
    if best is None:
        lines.append([int(i)])
    else:
        best.append(i)


def _line_around(i: int, lines: list[list[int]], heights: list[float], boxes: np.ndarray) -> int | None:
    """The line with the member nearest to a small component, if one is as near as its own height."""
    distances = []
    for line, height in zip(lines, heights, strict=True):
        members = boxes[line]
        across = np.maximum(np.maximum(members[:, 0] - boxes[i, 2], boxes[i, 0] - members[:, 2]), 0)
        down = np.maximum(np.maximum(members[:, 1] - boxes[i, 3], boxes[i, 1] - members[:, 3]), 0)
        distances.append(float(np.hypot(across, 2 * down).min()) / height)
    nearest = int(np.argmin(distances)) if distances else 0
    return nearest if distances and distances[nearest] < 1 else None


# ---- cuts ----


def atoms_of(found: Strokes, index: int, height: float) -> list[Atom]:
    """Cuts a component wherever it might be two digits that touch, from left to right.

    Args:
      found: the page's components.
      index: the component.
      height: of the line's digits, in pixels.
    """
    left, top, right, bottom = (int(side) for side in found.boxes[index])
    mask = found.labels[top:bottom, left:right] == index
    whole = Atom(index, (left, top, right, bottom), mask)
    if right - left < _NARROWEST * height or bottom - top < 0.5 * height:
        return [whole]
    factor = max(1, round(height / _SEAM_ROWS))
    seams, costs = _seams(_coarse(mask, factor), max(found.width / factor, 1), height / factor)
    if not len(seams):
        return [whole]
    edges = np.repeat(seams, factor, axis=1)[:, : bottom - top] * factor  # [cuts, rows]
    part = (np.arange(right - left)[None, None] >= edges[:, :, None]).sum(0)
    atoms = []
    for number in range(len(seams) + 1):
        piece = mask & (part == number)
        rows, columns = np.flatnonzero(piece.any(1)), np.flatnonzero(piece.any(0))
        if not rows.size:
            continue
        box = (left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1)
        cut = float(costs[number]) if number < len(seams) else None
        inside = piece[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        atoms.append(Atom(index, (int(box[0]), int(box[1]), int(box[2]), int(box[3])), inside, cut))
    return atoms


def _coarse(mask: np.ndarray, factor: int) -> Float[np.ndarray, "h w"]:
    """The share of ink in blocks of `factor` by `factor` pixels."""
    height, width = (-side % factor for side in mask.shape)
    padded = np.pad(mask, ((0, height), (0, width))).astype(np.float32)
    blocks = padded.reshape(padded.shape[0] // factor, factor, padded.shape[1] // factor, factor)
    return blocks.mean((1, 3))


def _seams(
    ink: Float[np.ndarray, "h w"], stroke: float, height: float
) -> tuple[Int[np.ndarray, "cuts h"], Float[np.ndarray, " cuts"]]:
    """Paths from top to bottom through as little ink as possible, from left to right.

    The cheapest path through each pixel of the middle row, by dynamic programming in both directions
    (Avidan and Shamir, "Seam carving for content-aware image resizing", 2007); of those, the cheapest
    that divide the ink differently.

    Returns:
      The column at which the right part begins, for each seam and row; and the ink crossed, in strokes.
    """
    middle = len(ink) // 2
    up, up_steps = _descend(ink[: middle + 1])
    down, down_steps = _descend(ink[middle:][::-1])
    cost = (up + down - ink[middle]) / stroke
    left_of = np.concatenate([np.zeros((len(ink), 1)), np.cumsum(ink, axis=1)], axis=1)
    rows, area = np.arange(len(ink)), float(ink.sum())
    least = _LEAST_PART * height * stroke
    chosen: list[tuple[float, np.ndarray, float]] = []
    for anchor in np.argsort(cost, kind="stable"):
        if cost[anchor] > _DEEPEST_CUT:
            break
        seam = np.concatenate([_trace(up_steps, anchor), [anchor], _trace(down_steps, anchor)[::-1]])
        share = float(left_of[rows, seam].sum())
        known = [0.0, area, *(other for other, _, _ in chosen)]
        if min(abs(share - other) for other in known) >= least:
            chosen.append((share, seam, float(cost[anchor])))
    chosen.sort(key=lambda entry: entry[0])
    if not chosen:
        return np.zeros((0, len(ink)), int), np.zeros(0)
    seams = np.maximum.accumulate([seam for _, seam, _ in chosen], axis=0)  # they may not cross
    return seams, np.array([cost for _, _, cost in chosen])


def _descend(ink: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cheapest paths from the first row to each pixel of the last, and the steps that they take."""
    total, steps = ink[0], []
    columns = np.arange(ink.shape[1])
    for row in ink[1:]:
        beside = np.pad(total, 1, constant_values=np.inf)
        options = np.stack([total, beside[:-2] + _SIDEWAYS, beside[2:] + _SIDEWAYS])
        choice = options.argmin(0)
        total = row + options[choice, columns]
        steps.append(np.array([0, -1, 1])[choice])
    return total, np.array(steps, int).reshape(-1, ink.shape[1])


def _trace(steps: np.ndarray, column: int) -> np.ndarray:
    """The columns of a path in all rows but the last, where it is at `column`."""
    path = []
    for step in steps[::-1]:
        column = column + step[column]
        path.append(column)
    return np.array(path[::-1], int)
