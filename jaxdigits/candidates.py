"""The candidates for a digit in a line of writing, what speaks for each, and the best way through them.

Neighbouring atoms (`layout`), alone and together, are candidates. Each has features, from how it lies, what
it looks like and what it is read as, whose weighted sum is its score; the best path passes each atom once, as
part of a candidate or, at a cost, as a speck. Reading the candidates is left to `reading`.
"""

import dataclasses
import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from jaxdigits import layout
from jaxdigits.layout import Atom

__all__ = ["WEIGHTS", "Lattice", "Weights", "best_path", "features_of", "lattice_of", "skip_cost"]

_CROSSED = 100  # of 255: where a row or a column of an image enters a stroke
_LONGEST = 5  # atoms in a candidate
_WIDEST = 1.5  # of the line's height: the widest candidate of several atoms
_LOW = 0.9  # of the line's height: what is lower is more seldom a digit
_WIDE = 0.8  # of the line's height: what is wider is more seldom a digit
_TINY = 0.35  # of the line's height: no digit is smaller
_SURE = 8.0  # nats: a score beyond this says no more
_SKIP = 9.6  # cost of passing a component over, for the larger side of its box in line heights, squared
# How often a row, and how often a column, of a digit from 0 to 9 crosses a stroke, over 20 rows or columns:
# means and standard deviations over 30,000 of MNIST's training images.
_CROSSINGS = np.array([
    (1.62, 0.18, 1.46, 0.26), (1.01, 0.04, 0.45, 0.21), (1.24, 0.22, 1.55, 0.28), (1.19, 0.13, 1.63, 0.34),
    (1.41, 0.13, 1.04, 0.25), (1.11, 0.17, 1.63, 0.31), (1.39, 0.20, 1.28, 0.30), (1.13, 0.13, 1.11, 0.25),
    (1.51, 0.16, 1.48, 0.34), (1.35, 0.15, 1.18, 0.28),
])  # fmt: skip


class Weights(NamedTuple):
    """What makes a candidate a digit: the score of a candidate is the sum of these times its features.

    A line's reading is a path through its candidates, more probable by exp(score): a linear-chain
    conditional random field (Lafferty, McCallum and Pereira 2001). The weights were fitted for an earlier
    packaged model, by their likelihood on 600 pages (`tests/pages.py`) of training digits that it was not
    trained on, and rounded: `python -m benchmarks.fit_reading --pages 600`. For the present one they read as
    well as weights of its own.
    """

    digit: float = -1.1
    """Every candidate: below 0, so that fewer digits are preferred."""
    score: float = 0.34
    """How much it is a digit, in nats: `rejection.score`, up to `_SURE` on either side of 0."""
    low: float = -8.0
    """By how much of the line's height it falls short of `_LOW` of that."""
    wide: float = -1.3
    """By how much of the line's height it is wider than `_WIDE` of that."""
    crowded: float = -0.39
    """By how many standard deviations its rows cross more strokes than such a digit's do."""
    sparse: float = -0.24
    """By how many they cross fewer."""
    flat: float = -0.66
    """By how many its columns cross fewer strokes than such a digit's do."""
    depth: float = -0.21
    """The ink at its sides that was cut through, in stroke widths."""
    one: float = -1.3
    """It is read as a one, as any piece of a stroke may be."""
    distance: float = -10.0
    """The gaps between its components, as a share of the line's height. Not fitted: pages have few."""
    tiny: float = -30.0
    """By how much of the line's height its larger side falls short of `_TINY` of that. Not fitted."""


WEIGHTS = Weights()


@dataclasses.dataclass(frozen=True, eq=False)
class Lattice:
    """One line of writing: its atoms from left to right, and what neighbours among them may form.

    Attributes:
      atoms: n of them.
      height: of the line's digits, in pixels.
      spans: (first, last + 1) atom of each of the k candidates.
      boxes: int [k, 4], of the candidates.
      pieces: the ink of each candidate, uint8 [h, w].
    """

    atoms: list[Atom]
    height: float
    spans: list[tuple[int, int]]
    boxes: np.ndarray
    pieces: list[np.ndarray]


def lattice_of(
    found: layout.Strokes, ink: UInt8[np.ndarray, "h w"], line: list[int], height: float
) -> Lattice:
    """All candidates for a digit in a line."""
    atoms = [atom for index in line for atom in layout.atoms_of(found, index, height)]
    spans, boxes, pieces = [], [], []
    for start in range(len(atoms)):
        for stop in range(start + 1, min(start + _LONGEST, len(atoms)) + 1):
            box = _union([atom.box for atom in atoms[start:stop]])
            if stop > start + 1 and box[2] - box[0] > _WIDEST * height:
                break
            spans.append((start, stop))
            boxes.append(box)
            pieces.append(_piece(atoms[start:stop], box, found.labels, ink))
    return Lattice(atoms, height, spans, np.array(boxes, int).reshape(-1, 4), pieces)


def _union(boxes: list[tuple[int, int, int, int]]) -> tuple[int, int, int, int]:
    sides = np.array(boxes)
    (left, top), (right, bottom) = sides[:, :2].min(0).tolist(), sides[:, 2:].max(0).tolist()
    return left, top, right, bottom


def _piece(
    atoms: list[Atom], box: tuple[int, int, int, int], labels: np.ndarray, ink: np.ndarray
) -> UInt8[np.ndarray, "h w"]:
    """The ink of some atoms, with its soft edge, without that of their neighbours."""
    left, top, right, bottom = (max(box[0] - 1, 0), max(box[1] - 1, 0), box[2] + 1, box[3] + 1)
    labels, ink = labels[top:bottom, left:right], ink[top:bottom, left:right]
    own = np.zeros(ink.shape, bool)
    for atom in atoms:
        x, y = atom.box[0] - left, atom.box[1] - top
        own[y : y + atom.mask.shape[0], x : x + atom.mask.shape[1]] |= atom.mask
    near = np.pad(own, 1)
    near = near[:-2] | near[1:-1] | near[2:]
    near = near[:, :-2] | near[:, 1:-1] | near[:, 2:]
    return np.where(own | (near & (labels < 0)), ink, np.uint8(0))


def features_of(
    lattice: Lattice,
    images: UInt8[np.ndarray, "k 28 28"],
    digits: Int[np.ndarray, " k"],
    scores: Float[np.ndarray, " k"],
) -> Float[np.ndarray, "k features"]:
    """What `Weights` weighs, of each candidate: how it lies, its image, what it is read as, and its score."""
    atoms, height = lattice.atoms, lattice.height
    sides = (lattice.boxes[:, 2:] - lattice.boxes[:, :2]) / height  # wide, high
    usual = _CROSSINGS[digits % len(_CROSSINGS)]
    ink = np.pad(images > _CROSSED, ((0, 0), (1, 0), (1, 0)))
    rows = (ink[:, 1:, 1:] & ~ink[:, 1:, :-1]).sum((1, 2)) / 20
    columns = (ink[:, 1:, 1:] & ~ink[:, :-1, 1:]).sum((1, 2)) / 20
    across = np.clip((rows - usual[:, 0]) / usual[:, 1], -4, 4)
    down = np.clip((columns - usual[:, 2]) / usual[:, 3], -4, 4)
    cuts = np.array(
        [0.0] + [atom.cut or 0.0 for atom in atoms[:-1]] + [0.0]
    )  # before each atom, and at the end
    gaps = np.array([0.0] + [_gap(*pair) / height for pair in itertools.pairwise(atoms)]).cumsum()
    starts, stops = np.array(lattice.spans).T
    features = {
        "digit": np.ones(len(digits)),
        "score": np.clip(scores, -_SURE, _SURE),
        "low": np.maximum(_LOW - sides[:, 1], 0),
        "wide": np.maximum(sides[:, 0] - _WIDE, 0),
        "crowded": np.maximum(across, 0),
        "sparse": np.maximum(-across, 0),
        "flat": np.maximum(-down, 0),
        "depth": cuts[starts] + cuts[stops],
        "one": digits == 1,
        "distance": gaps[stops - 1] - gaps[starts],
        "tiny": np.maximum(_TINY - sides.max(1), 0),
    }
    return np.stack([features[name] for name in Weights._fields], axis=1)


def _gap(one: Atom, other: Atom) -> float:
    """The paper between two components from left to right, in pixels; 0 within one."""
    if one.component == other.component:
        return 0.0
    return max(other.box[0] - one.box[2], one.box[0] - other.box[2], 0)


def best_path(lattice: Lattice, scores: Float[np.ndarray, " k"]) -> list[int]:
    """The candidates, from left to right, that together are the most probable reading of a line."""
    n = len(lattice.atoms)
    best, back = np.full(n + 1, -np.inf), [(-1, -1)] * (n + 1)  # back: where from, by which candidate
    best[0] = 0
    arriving: list[list[int]] = [[] for _ in range(n + 1)]
    for candidate, (_, stop) in enumerate(lattice.spans):
        arriving[stop].append(candidate)
    for stop in range(1, n + 1):
        best[stop], back[stop] = best[stop - 1] - skip_cost(lattice, stop - 1), (stop - 1, -1)
        for candidate in arriving[stop]:
            start = lattice.spans[candidate][0]
            if best[start] + scores[candidate] > best[stop]:
                best[stop], back[stop] = best[start] + scores[candidate], (start, candidate)
    path, stop = [], n
    while stop > 0:
        stop, candidate = back[stop]
        if candidate >= 0:
            path.append(candidate)
    return path[::-1]


def skip_cost(lattice: Lattice, k: int) -> float:
    """What it costs to pass an atom over: a speck, a point or a comma; parts of a component stay."""
    atom = lattice.atoms[k]
    neighbours = lattice.atoms[max(k - 1, 0) : k] + lattice.atoms[k + 1 : k + 2]
    if any(other.component == atom.component for other in neighbours):
        return np.inf
    side = max(atom.box[2] - atom.box[0], atom.box[3] - atom.box[1]) / lattice.height
    return _SKIP * side**2
