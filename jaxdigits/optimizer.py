"""A configuration and the number of updates to an Optax gradient transformation."""

import jax
import optax

from jaxdigits.config import TrainConfig

__all__ = ["make_optimizer", "make_schedule"]


def make_schedule(config: TrainConfig, updates: int) -> optax.Schedule:
    """The learning rate over a run: one cycle, up along a cosine and down to nearly nothing.

    Smith and Topin 2018, "Super-convergence". The first quarter rises from a tenth of the peak.
    """
    rise = max(1, updates // 4)
    return optax.join_schedules(
        [
            optax.schedules.linear_schedule(config.learning_rate / 10, config.learning_rate, rise),
            optax.schedules.cosine_decay_schedule(config.learning_rate, max(1, updates - rise)),
        ],
        [rise],
    )


def make_optimizer(config: TrainConfig, updates: int) -> optax.GradientTransformation:
    """AdamW under the one-cycle schedule, for a run of `updates` updates.

    Loshchilov and Hutter 2019, "Decoupled weight decay regularization". Only matrices and kernels
    decay; a bias has nothing to gain from it.
    """
    return optax.adamw(
        make_schedule(config, updates),
        b1=0.9,
        b2=0.99,  # a short run has no thousand updates over which 0.999 would average
        weight_decay=config.weight_decay,
        mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
    )
