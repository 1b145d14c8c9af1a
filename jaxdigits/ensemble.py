"""Several recognisers as one: each picture gets the mean of their probabilities.

Members of an ensemble err on different pictures (Lakshminarayanan et al. 2017, "Simple and scalable
predictive uncertainty estimation using deep ensembles"). `many.train_many` trains them.
"""

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
      model: the first one's, for all that they have in common.

    Raises:
      UsageError: there is none, or they do not know the same classes.
    """

    def __init__(self, models: Sequence[Model | Recognizer]):
        self.members = [model if isinstance(model, Recognizer) else Recognizer(model) for model in models]
        if not self.members:
            raise UsageError("an ensemble needs at least one model")
        self.model = self.members[0].model
        for member in self.members:
            if (member.model.class_names, member.model.dataset) != (
                self.model.class_names,
                self.model.dataset,
            ):
                raise UsageError(
                    f"an ensemble's models know the same classes; found those of {self.model.dataset} and of "
                    f"{member.model.dataset}"
                )

    def probabilities(self, images: np.ndarray) -> Float[np.ndarray, "n classes"]:
        """The mean of the members' probabilities of model-ready images: uint8 [n, 28, 28, 1]."""
        return np.mean([member.probabilities(images) for member in self.members], axis=0)
