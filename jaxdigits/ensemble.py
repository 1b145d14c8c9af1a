"""Several recognisers as one: each picture gets the mean of their probabilities.

Members of an ensemble err on different pictures (Lakshminarayanan et al. 2017, "Simple and scalable
predictive uncertainty estimation using deep ensembles"). `many.train_many` trains them.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from jaxdigits.checkpoint import Model
from jaxdigits.errors import UsageError
from jaxdigits.recognizer import Recognizer

__all__ = ["Ensemble"]


class Ensemble(Recognizer):
    """Reads pictures with several models, on JAX's default device.

    Example:
      >>> Ensemble(train_many(range(5)).models).predict("seven.png")  # doctest: +SKIP

    Args:
      models: the models, or recognisers.

    Attributes:
      members: a recogniser each.
      model: the first one's, for all that they have in common; its threshold is the mean of theirs.

    Raises:
      UsageError: there is none, or they do not know the same classes.
    """

    def __init__(self, models: Sequence[Model | Recognizer]):
        self.members = [model if isinstance(model, Recognizer) else Recognizer(model) for model in models]
        if not self.members:
            raise UsageError("an ensemble needs at least one model")
        own = [member.model for member in self.members]
        for other in own:
            if _knows(other) != _knows(own[0]):
                raise UsageError(
                    f"an ensemble's models know the same classes; found those of {own[0].dataset} and of "
                    f"{other.dataset}"
                )
        thresholds = [model.threshold for model in own if model.threshold is not None]
        threshold = float(np.mean(thresholds)) if len(thresholds) == len(own) else None
        self.model = dataclasses.replace(own[0], temperature=1.0, threshold=threshold)

    def logits(self, images: np.ndarray) -> Float[np.ndarray, "n outputs"]:
        """The logarithms of the members' mean probabilities, of model-ready images: uint8 [n, 28, 28, 1]."""
        each = np.stack([member.logits(images) / member.model.temperature for member in self.members])
        each -= each.max(axis=-1, keepdims=True)
        each -= np.log(np.exp(each).sum(axis=-1, keepdims=True))
        return (np.logaddexp.reduce(each) - np.log(len(each))).astype(np.float32)


def _knows(model: Model) -> tuple[object, ...]:
    return model.class_names, model.dataset, model.none_class
