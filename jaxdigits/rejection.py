"""Whether a picture shows a digit at all: how an answer is scored, and which answers are refused.

A network always names a class, and is often sure of it where there is none. So each answer has a score, and
what scores below a threshold is refused (Hendrycks and Gimpel 2017, "A baseline for detecting misclassified
and out-of-distribution examples in neural networks"). A network may have learnt, from images that belong to
no class, an output more than it has classes, its last, for 'none of them' (Hendrycks, Mazeika and
Dietterich 2019, "Deep anomaly detection with outlier exposure"). That output bears on score and refusal
alone; probabilities are those of the classes.

All of this is NumPy on logits: where these come from is left to `recognizer`, where threshold and
temperature are kept to `checkpoint`.
"""

from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float

from jaxdigits.errors import UsageError

__all__ = ["Reason", "fit_threshold", "probabilities", "reasons", "score"]

Reason: TypeAlias = Literal["", "blank", "not a digit", "uncertain"]

Logits: TypeAlias = 'Float[np.ndarray, "n outputs"]'


def probabilities(
    logits: Logits, temperature: float = 1.0, none_class: bool = False
) -> Float[np.ndarray, "n classes"]:
    """The probability of each class if it is one of them, float32: their sum is 1.

    Args:
      logits: float32, one output for each of two or more classes, and with `none_class` one more.
      temperature: what the logits are divided by, above 0.
      none_class: whether the last output means 'none of the classes'.
    """
    logits = logits[:, : logits.shape[1] - none_class] / np.float32(temperature)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def score(logits: Logits, temperature: float = 1.0, none_class: bool = False) -> Float[np.ndarray, " n"]:
    """How much each image is a digit, more being more: the log-odds, in nats, of its best class.

    That is log(p / (1 - p)) of the class's probability p among all outputs, 'none' included: the class's
    logit less the logarithm of the other outputs' summed exponentials. In this form it tells answers apart
    whose p has long been rounded to 1.

    Args:
      logits: as for `probabilities`.
      temperature: as for `probabilities`.
      none_class: as for `probabilities`.

    Returns:
      float64; below 0 where the best class is less probable than all else together.
    """
    logits = logits.astype(np.float64) / temperature
    rows, best = np.arange(len(logits)), logits[:, : logits.shape[1] - none_class].argmax(axis=1)
    own = logits[rows, best]
    logits[rows, best] = -np.inf
    highest = logits.max(axis=1)
    return own - highest - np.log(np.exp(logits - highest[:, None]).sum(axis=1))


def fit_threshold(scores: Float[np.ndarray, " n"], refuse: float = 0.01) -> float:
    """The largest threshold among the scores of digits that at most a share of these lies below.

    Args:
      scores: of digits that the network was not trained on.
      refuse: the share of them that may be refused, from 0 to below 1.

    Raises:
      UsageError: there are no scores, one is not finite, or the share is out of range.
    """
    if not len(scores) or not np.isfinite(scores).all():
        raise UsageError("there are no scores, or not all are finite; expected those of some digits")
    if not 0 <= refuse < 1:
        raise UsageError(f"the share to refuse is {refuse}; expected 0 to below 1")
    return float(np.sort(scores)[int(refuse * len(scores))])


def reasons(
    logits: Logits,
    scores: Float[np.ndarray, " n"],
    blank: Bool[np.ndarray, " n"],
    *,
    none_class: bool = False,
    threshold: float | None = None,
) -> np.ndarray:
    """Why each answer is refused, as a `Reason`: an array of n strings, "" where it is not.

    Args:
      logits: as for `probabilities`.
      scores: what `score` makes of them.
      blank: where there is no ink: "blank".
      none_class: as for `probabilities`. Where 'none' is the largest output: "not a digit", whatever
        the threshold.
      threshold: what scores below this is "uncertain"; nothing is, if it is None.
    """
    none = np.zeros(len(logits), bool)
    if none_class:
        none = logits[:, -1] > logits[:, :-1].max(axis=1)
    low = scores < (-np.inf if threshold is None else threshold)
    kept = np.where(low, "uncertain", "")
    return np.where(blank, "blank", np.where(none, "not a digit", kept))
