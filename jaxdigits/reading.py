"""All the digits in one picture: found, put in order, read.

The page's ink (`page`) is cut into more pieces than it has digits: every connected component, and its parts
where it might be two digits that touch (`layout`). Neighbouring pieces, alone and together, are candidates
for a digit (`candidates`); the recogniser reads them all, and the best way through each line is found by
dynamic programming. That is the over-segmentation of Casey and Lecolinet, "A survey of methods and strategies
in character segmentation" (1996). Points, commas and specks are passed over. Lines are level, give or take a
few degrees; there is nothing on the page but numbers.
"""

import dataclasses
import itertools
import os
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from jaxdigits import layout, rejection
from jaxdigits.candidates import WEIGHTS, Lattice, best_path, features_of, lattice_of
from jaxdigits.errors import DataError, UsageError
from jaxdigits.form import CANONICAL, centred, fitted, usual_strokes, with_margin
from jaxdigits.ink import Invert
from jaxdigits.morphology import resized
from jaxdigits.page import ink_of
from jaxdigits.recognizer import Recognizer, recognizer_of
from jaxdigits.sources import Picture, sources

__all__ = ["Line", "ReadDigit", "Reading", "lines_of", "read"]

_INK = 128  # of 255: where a stroke ends
_THINNING = 0.25  # of its width: the most that a stroke loses on each side


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


class Line(NamedTuple):
    """One line of writing, before it is decided what it says."""

    lattice: Lattice
    features: Float[np.ndarray, "k features"]
    """What `candidates.Weights` weighs, of each candidate."""
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


def _image_of(ink: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "28 28"]:
    """The ink of one digit, cut out, in MNIST's form: strokes of its width, fitted, centred."""
    sizes = (max(2, round(size * CANONICAL / max(ink.shape))) for size in ink.shape)
    return centred(fitted(usual_strokes(with_margin(resized(ink, *sizes)), _THINNING)))
