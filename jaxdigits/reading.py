"""All the digits in one picture: found, put in order, read.

The page's ink is cut into more pieces than it has digits: every connected component, and its parts where
it might be two digits that touch (`layout`). Neighbouring pieces, alone and together, are candidates for a
digit; the recogniser reads them all, and the best way through each line is found by dynamic programming.
That is the over-segmentation of Casey and Lecolinet, "A survey of methods and strategies in character
segmentation" (1996). Points, commas and specks are passed over. Lines are level, give or take a few
degrees; there is nothing on the page but numbers.
"""

import dataclasses
import itertools
import os
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from jaxdigits import layout, rejection
from jaxdigits.errors import DataError, UsageError
from jaxdigits.form import CANONICAL, centred, fitted, usual_strokes, with_margin
from jaxdigits.grey import grey_of
from jaxdigits.ink import Invert, ink_level, levels
from jaxdigits.layout import Atom
from jaxdigits.morphology import closed, histogram, resized
from jaxdigits.paper import CONTRAST, extended, polarity, quiet, sheet, without_lines
from jaxdigits.recognizer import Recognizer, recognizer_of
from jaxdigits.sources import Picture, sources

__all__ = ["ReadDigit", "Reading", "ink_of", "read"]

_INK = 128  # of 255: where a stroke ends
_WORKING_SIDE = 2048  # pixels: what is larger is averaged down
_PAPER_SIDE = 192  # pixels: light and shadow need no more
_WINDOW = 0.35  # of the longer side: wider than any stroke, narrower than the shadows to be removed
_NOISE = 5  # standard deviations: ink is told from the paper's noise by as much
_THINNING = 0.25  # of its width: the most that a stroke loses on each side
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
    conditional random field (Lafferty, McCallum and Pereira 2001). The weights were fitted for the packaged
    model, by their likelihood on 600 pages (`tests/pages.py`) of training digits that it was not trained
    on, and rounded: `python -m benchmarks.fit_reading --pages 600`.
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
class ReadDigit:
    """One digit of a picture.

    Attributes:
      box: (left, top, right, bottom) in pixels of the picture, as it is seen upright.
      digit: the most probable digit.
      probability: its probability, from 0 to 1.
      probabilities: those of all classes, float32 [classes].
    """

    box: tuple[int, int, int, int]
    digit: int
    probability: float
    probabilities: Float[np.ndarray, " classes"]

    def __repr__(self) -> str:
        return f"ReadDigit({self.digit}, probability={self.probability:.4f}, box={self.box})"


@dataclasses.dataclass(frozen=True, eq=False)
class Reading:
    """All the digits of one picture.

    Attributes:
      source: the picture's name: its path, or its kind.
      lines: from top to bottom, each from left to right; empty where there is no digit.
    """

    source: str
    lines: tuple[tuple[ReadDigit, ...], ...]

    @property
    def digits(self) -> tuple[ReadDigit, ...]:
        """All digits in reading order."""
        return tuple(digit for line in self.lines for digit in line)

    @property
    def text(self) -> str:
        """The number, or the numbers, one line for each line of digits; "" where there is none."""
        return "\n".join("".join(str(digit.digit) for digit in line) for line in self.lines)

    @property
    def probability(self) -> float:
        """The product of the digits' probabilities; 1 where there is none."""
        return float(np.prod([digit.probability for digit in self.digits]))

    def __len__(self) -> int:
        return len(self.digits)

    def __repr__(self) -> str:
        shown = self.text if len(self.text) <= 60 else f"{self.text[:57]}..."
        about = f"digits={len(self)}, probability={self.probability:.4f}, source={self.source!r}"
        return f"Reading({shown!r}, {about})"


def read(
    picture: Any, model: "Recognizer | str | os.PathLike[str] | None" = None, *, invert: Invert = "auto"
) -> Reading:
    """Reads all the digits in one picture: a postal code, an amount, a column of figures.

    Example:
      >>> read("code.png").text  # doctest: +SKIP
      '52062'

    Args:
      picture: a path, a Pillow image, a NumPy or JAX array of one picture, encoded bytes or a binary file.
      model: a recogniser, a run folder or a model file; by default the packaged model. To use
        another one often, `load` it once.
      invert: whether the ink is darker than the paper, and thus to be inverted, or found out by itself.

    Returns:
      The digits in lines; none for a picture without ink. Pictures over 2048 pixels are made smaller
      first; digits that are then lower than about 15 pixels are read badly.

    Raises:
      DataError: it is no picture, or several, or no model.
      UsageError: `invert` is something else.
    """
    if invert not in ("auto", True, False):
        raise UsageError(f"invert is {invert!r}; expected 'auto', True or False")
    recognizer = recognizer_of(model)
    opened = _opened(picture)
    ink = ink_of(opened.pixels, invert)
    scale = (opened.pixels.shape[1] / ink.shape[1], opened.pixels.shape[0] / ink.shape[0])
    lines = []
    for lattice, features, probabilities in lines_of(ink, recognizer):
        if chosen := best_path(lattice, features @ np.array(WEIGHTS)):
            lines.append(tuple(_digit(lattice.boxes[i], probabilities[i], scale) for i in chosen))
    return Reading(opened.name, tuple(lines))


def _opened(picture: Any) -> Picture:
    """The one picture of a source."""
    found = list(itertools.islice(sources(picture), 2))
    if len(found) != 1:
        raise DataError(f"{found[0].name}: expected one picture, found several; read them one by one")
    return found[0].load()


def _digit(box: np.ndarray, probabilities: np.ndarray, scale: tuple[float, float]) -> ReadDigit:
    left, right = (round(float(side) * scale[0]) for side in box[[0, 2]])
    top, bottom = (round(float(side) * scale[1]) for side in box[[1, 3]])
    digit = int(probabilities.argmax())
    return ReadDigit((left, top, right, bottom), digit, float(probabilities[digit]), probabilities)


# ---- candidates and the best way through them ----


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


class Line(NamedTuple):
    """One line of writing, before it is decided what it says."""

    lattice: Lattice
    features: Float[np.ndarray, "k features"]
    """What `Weights` weighs, of each candidate."""
    probabilities: Float[np.ndarray, "k classes"]
    """Of each candidate, if it is a digit."""


def lines_of(ink: UInt8[np.ndarray, "h w"], recognizer: Recognizer) -> list[Line]:
    """The candidates for digits of a page, line by line from top to bottom, read by the recogniser."""
    found = layout.strokes_of(ink > _INK)
    lattices = [lattice_of(found, ink, line, height) for line, height in layout.lines_of(found)]
    images = [_image_of(piece) for lattice in lattices for piece in lattice.pieces]
    images = np.array(images, np.uint8).reshape(-1, 28, 28)
    model, logits = recognizer.model, recognizer.logits(images[..., None])
    probabilities = rejection.probabilities(logits, model.temperature, model.none_class)
    scores = rejection.score(logits, model.temperature, model.none_class)
    lines, start = [], 0
    for lattice in lattices:
        own = slice(start, start := start + len(lattice.spans))
        features = features_of(lattice, images[own], probabilities[own].argmax(1), scores[own])
        lines.append(Line(lattice, features, probabilities[own]))
    return lines


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


# ---- the page's ink ----


def ink_of(pixels: np.ndarray, invert: Invert = "auto") -> UInt8[np.ndarray, "h w"]:
    """The ink of a page: 0 on paper, 255 where it is solid, a stroke's edge in the middle.

    Args:
      pixels: from 0 to 255: uint8 or float32 [h, w] grey, uint8 [h, w, 3] RGB or [h, w, 4] RGBA.
      invert: whether the ink is darker than the paper, and thus to be inverted, or found out by itself.

    Returns:
      The ink, of a picture whose longer side is over `_WORKING_SIDE` at that size; all 0 if there is none.
    """
    grey = grey_of(pixels, _WORKING_SIDE)
    counts = histogram(grey)
    if invert is not False and (on_table := sheet(grey, counts)) is not None:
        inside, box = on_table
        ink = np.zeros_like(grey)
        ink[box] = _ink_on(extended(grey[box], inside[box]))
        return ink
    dark = polarity(grey, counts) if invert == "auto" else invert
    dark = _stands_out_darker(grey) if dark is None else dark
    return _ink_on(grey if dark else ~grey)


def _ink_on(grey: np.ndarray) -> np.ndarray:
    """The dark ink in grey levels, uint8 [h, w], as in `ink_of`."""
    strength = _darkness(quiet(grey))
    level, noise = ink_level(strength)
    if level >= max(CONTRAST, _NOISE * noise):
        strength = without_lines(strength, level)
        level, noise = ink_level(strength)
    if level < max(CONTRAST, _NOISE * noise):
        return np.zeros_like(grey)
    return levels(strength, level)


def _darkness(grey: np.ndarray) -> np.ndarray:
    """How much darker each pixel is than the paper there, uint8 [h, w] in grey levels.

    As `paper.darkness`, but the paper is found at a low resolution, where that costs little and most of
    the noise is averaged away.
    """
    small = _small(grey).astype(np.float32)
    window = max(5, round(_WINDOW * max(small.shape)))
    slope = _plane(closed(small, window))  # at the border, filling in would flatten a slope of the light
    paper = resized(closed(small - slope, window) + slope, *grey.shape)
    strength = np.maximum(paper - grey, 0)
    offset = np.percentile(strength[::2, ::2], 30)
    return np.clip(strength - offset, 0, 255).astype(np.uint8)


def _plane(values: np.ndarray) -> np.ndarray:
    """The plane that comes nearest to values, float32 [h, w], by least squares."""
    down, across = (np.linspace(-1, 1, side, dtype=np.float32) for side in values.shape)
    rise, run = values.mean(1) @ down, values.mean(0) @ across  # the axes are orthogonal
    return (
        values.mean()
        + (rise / max(down @ down, 1)) * down[:, None]
        + (run / max(across @ across, 1)) * across
    )


def _small(grey: np.ndarray) -> np.ndarray:
    scale = min(1.0, _PAPER_SIDE / max(grey.shape))
    return resized(grey, *(max(1, round(side * scale)) for side in grey.shape))


def _stands_out_darker(grey: np.ndarray) -> bool:
    """Whether what stands out from its surroundings is darker, on the whole: by its third moment."""
    small = _small(grey)
    around = resized(resized(small, *(max(1, side // 24) for side in small.shape)), *small.shape)
    return float(((small.astype(np.float64) - around) ** 3).sum()) < 0


# ---- MNIST's form ----


def _image_of(ink: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "28 28"]:
    """The ink of one digit, cut out, in MNIST's form: strokes of its width, fitted, centred."""
    sizes = (max(2, round(size * CANONICAL / max(ink.shape))) for size in ink.shape)
    return centred(fitted(usual_strokes(with_margin(resized(ink, *sizes)), _THINNING)))
