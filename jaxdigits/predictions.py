"""Answers: what one picture shows, and what several show.

They hold what the network gave; everything else that is asked of them follows from it. How they come about
is left to `recognizer`, why one is refused to `rejection`.
"""

import dataclasses
import operator
from collections.abc import Iterator
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxdigits.errors import DataError
from jaxdigits.rejection import Reason

__all__ = ["FIELDS", "Prediction", "Predictions", "row_names"]

FIELDS = (
    *("source", "digit", "name", "probability", "runner_up"),
    *("score", "rejected", "reason", "note"),
)
"""The attributes of a `Prediction` that are plain values, in the order in which they are told."""


def row_names(classes: int) -> list[str]:
    """The keys of `Prediction.to_row`, for so many classes."""
    return [*FIELDS, *(f"probability_{index}" for index in range(classes))]


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """What one picture shows.

    Attributes:
      source: the picture's name: its path, or its kind and place among the inputs.
      probabilities: those of all classes, float32 [classes].
      score: how much it is a digit, more being more: the log-odds of the best guess, in nats.
      reason: why the answer is refused: "blank", "not a digit" or "uncertain"; or "".
      class_names: a name for each class.
      note: what a reader should know of how the picture was read, as of one with several frames; or "".
    """

    source: str
    probabilities: Float[np.ndarray, " classes"]
    score: float
    reason: Reason
    class_names: tuple[str, ...]
    note: str = ""

    @property
    def ranking(self) -> list[int]:
        """All classes, the most probable first."""
        return np.argsort(-self.probabilities, kind="stable").tolist()

    @property
    def digit(self) -> int:
        """The most probable class, from 0; for MNIST it is the digit itself. A refused answer has one too."""
        return int(self.probabilities.argmax())

    @property
    def name(self) -> str:
        """The name of that class."""
        return self.class_names[self.digit]

    @property
    def probability(self) -> float:
        """Its probability, from 0 to 1, if the picture shows one of the classes."""
        return float(self.probabilities.max())

    @property
    def runner_up(self) -> int:
        """The second most probable class."""
        return self.ranking[1]

    @property
    def runner_up_name(self) -> str:
        """The name of that class."""
        return self.class_names[self.runner_up]

    @property
    def rejected(self) -> bool:
        """Whether the answer is refused, for some `reason`; it is then no more than the best guess."""
        return bool(self.reason)

    def to_dict(self) -> dict[str, Any]:
        """The `FIELDS`, and `probabilities` as a list: plain values, ready for JSON."""
        return {field: getattr(self, field) for field in FIELDS} | {
            "probabilities": self.probabilities.tolist()
        }

    def to_row(self) -> dict[str, Any]:
        """The same in one level: `probability_0` and so on in place of the list."""
        values = *(getattr(self, field) for field in FIELDS), *self.probabilities.tolist()
        return dict(zip(row_names(len(self.probabilities)), values, strict=True))

    def __repr__(self) -> str:
        rejected = f", rejected={self.reason!r}" if self.rejected else ""
        about = f"probability={self.probability:.4f}, source={self.source!r}{rejected}"
        return f"Prediction({self.name!r}, {about})"


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """What several pictures show: arrays, which also iterate as `Prediction`s.

    Attributes:
      sources: n names of pictures.
      probabilities: float32 [n, classes].
      scores: how much each is a digit, float64 [n], as in `Prediction`.
      reasons: why answers are refused, n strings in an array, as in `Prediction`.
      class_names: a name for each class.
      notes: what a reader should know of how each picture was read; mostly "".
      errors: why pictures were skipped, in order.
    """

    sources: tuple[str, ...]
    probabilities: Float[np.ndarray, "n classes"]
    scores: Float[np.ndarray, " n"]
    reasons: np.ndarray
    class_names: tuple[str, ...]
    notes: tuple[str, ...]
    errors: tuple[DataError, ...] = ()

    @property
    def digits(self) -> Int[np.ndarray, " n"]:
        """The most probable class of each picture."""
        return self.probabilities.argmax(axis=1)

    @property
    def runner_ups(self) -> Int[np.ndarray, " n"]:
        """The second most probable class of each picture."""
        return np.argsort(-self.probabilities, axis=1, kind="stable")[:, 1]

    @property
    def rejected(self) -> Bool[np.ndarray, " n"]:
        """Whether each answer is refused."""
        return self.reasons != ""

    def to_dict(self) -> dict[str, list[Any]]:
        """A list of n values for each key of `Prediction.to_dict`."""
        rows = [one.to_dict() for one in self]
        return {field: [row[field] for row in rows] for field in (*FIELDS, "probabilities")}

    def to_rows(self) -> list[dict[str, Any]]:
        """`Prediction.to_row` of each: `pandas.DataFrame` and `csv.DictWriter` take it as it is."""
        return [one.to_row() for one in self]

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: SupportsIndex) -> Prediction:
        index = operator.index(index)
        return Prediction(
            self.sources[index],
            self.probabilities[index],
            float(self.scores[index]),
            self.reasons[index].item(),
            self.class_names,
            self.notes[index],
        )

    def __iter__(self) -> Iterator[Prediction]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        shown = " ".join(
            f"{self.class_names[digit]}{'?' if rejected else ''}"
            for digit, rejected in zip(self.digits[:20], self.rejected[:20], strict=True)
        )
        refused = f", {self.rejected.sum()} rejected" if self.rejected.any() else ""
        return f"Predictions(n={len(self)}{refused}: {shown}{' ...' if len(self) > 20 else ''})"
