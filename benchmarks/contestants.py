"""Who takes part in the handwriting benchmark: a model, the way to it, and what is told of its answers."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from jaxdigits import rejection

if TYPE_CHECKING:
    from jaxdigits.recognizer import Recognizer

__all__ = ["Answers", "Contestant", "figures", "pooled", "squashed"]

Images = UInt8[np.ndarray, "n 28 28"]


class Answers(NamedTuple):
    """What a contestant makes of n images."""

    probabilities: Float[np.ndarray, "n classes"]
    scores: Float[np.ndarray, " n"]
    refused: np.ndarray

    @property
    def digits(self) -> Int[np.ndarray, " n"]:
        """The most probable digit of each."""
        return self.probabilities.argmax(axis=1)


class Contestant(NamedTuple):
    """A model, and how pictures are brought to it."""

    name: str
    reader: "Recognizer"

    @property
    def naive(self) -> bool:
        """Whether pictures are squashed."""
        return self.name == "naive"

    def answers(self, images: Images) -> Answers:
        """What it makes of images in MNIST's form."""
        if self.naive and len(images):
            images = np.stack([squashed(image) for image in images])
        model, logits = self.reader.model, self.reader.logits(images[..., None])
        scores = rejection.score(logits, model.temperature, model.none_class)
        reasons = rejection.reasons(
            logits,
            scores,
            np.logical_not(images.any(axis=(1, 2))),
            none_class=model.none_class,
            threshold=model.threshold,
        )
        probabilities = rejection.probabilities(logits, model.temperature, model.none_class)
        return Answers(probabilities, scores, reasons != "")


def squashed(picture: np.ndarray) -> UInt8[np.ndarray, "28 28"]:
    """Naive resizing: a picture made grey, inverted if its border is bright, and squashed to 28x28.

    Args:
      picture: uint8 [h, w] or [h, w, 3].
    """
    from PIL import Image

    grey = np.asarray(Image.fromarray(picture).convert("L"))
    border = np.concatenate([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]])
    grey = 255 - grey if border.mean() > 127.5 else grey
    return np.asarray(Image.fromarray(grey).resize((28, 28), Image.Resampling.BICUBIC))


def figures(answers: Answers, labels: Int[np.ndarray, " n"]) -> dict[str, Any]:
    """What is told of answers to images of digits; all but `n` are shares from 0 to 1.

    Returns:
      `n`, the `error`, the mean `probability` that is claimed, the expected `calibration_error`, the share
      `refused`, and `error_of_rest`: of those that are not refused.
    """
    from jaxdigits.evaluate import Evaluation

    wrong, kept = answers.digits != labels, ~answers.refused
    logits = np.log(np.maximum(answers.probabilities, 1e-30))
    return {
        "n": len(labels),
        "error": float(wrong.mean()),
        "probability": float(answers.probabilities.max(axis=1).mean()),
        "calibration_error": Evaluation(logits, labels).calibration_error,
        "refused": float(answers.refused.mean()),
        "error_of_rest": float(wrong[kept].mean()) if kept.any() else 0.0,
    }


def pooled(parts: list[Answers]) -> Answers:
    """Several sets of answers as one."""
    return Answers(*map(np.concatenate, zip(*parts, strict=True)))
