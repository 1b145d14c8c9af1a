"""How far a training is, as it is told while an epoch runs and when it is over."""

import dataclasses
import math
from typing import Any, NamedTuple

__all__ = ["EpochSums", "Progress", "progress", "training_figures"]


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a training is, in the middle of an epoch.

    Attributes:
      epoch: the epoch that runs, from 1.
      epochs: how many there are to be.
      fraction: how much of the whole training is done, from 0 to 1.
      loss: mean training loss of the epoch so far, in nats.
      accuracy: training accuracy of the epoch so far, from 0 to 1, on augmented images.
      images_per_second: speed of the epoch so far.
      seconds_left: estimate for the rest of the training.
    """

    epoch: int
    epochs: int
    fraction: float
    loss: float
    accuracy: float
    images_per_second: float
    seconds_left: float


class EpochSums(NamedTuple):
    """`step.Sums` of the epoch that runs, on the host, and the seconds that they took."""

    loss: float
    correct: int
    images: int
    seconds: float


def progress(step: int, sums: EpochSums, updates: int, updates_per_epoch: int, images: int) -> Progress:
    """How far it is after `step` of `updates` updates, within an epoch of so many updates and images."""
    speed, epochs = sums.images / sums.seconds, updates / updates_per_epoch
    done = (step - 1) // updates_per_epoch  # epochs
    return Progress(
        epoch=done + 1,
        epochs=math.ceil(epochs),
        fraction=step / updates,
        loss=sums.loss / sums.images,
        accuracy=sums.correct / sums.images,
        images_per_second=speed,
        seconds_left=((epochs - done) * images - sums.images) / speed,
    )


def training_figures(sums: EpochSums) -> dict[str, Any]:
    """What `metrics.jsonl` has of an epoch's training, but for where in the training it is."""
    return {
        "images": sums.images,
        "train_loss": sums.loss / sums.images,
        "train_accuracy": sums.correct / sums.images,
        "seconds": round(sums.seconds, 3),
        "images_per_second": round(sums.images / sums.seconds, 1),
    }
