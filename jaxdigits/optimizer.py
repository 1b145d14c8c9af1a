"""A configuration and the number of updates to an Optax gradient transformation."""

import jax
import optax

from jaxdigits.config import TrainConfig, peak_rate
from jaxdigits.network import Params

__all__ = ["make_optimizer", "make_schedule"]


def make_schedule(config: TrainConfig, updates: int) -> optax.Schedule:
    """The learning rate over a run: a triangle, up from a tenth of the peak and down to nothing.

    Smith and Topin 2018, "Super-convergence", with straight lines: a short run gains from the higher
    rates that they keep for longer than a cosine does. The rise takes a fifth of the updates.
    """
    rise, peak = max(1, updates // 5), peak_rate(config.learning_rate, config.batch_size)
    up = optax.schedules.linear_schedule(peak / 10, peak, rise)
    down = optax.schedules.linear_schedule(peak, 0.0, max(1, updates - rise))
    return optax.schedules.join_schedules([up, down], [rise])


def make_optimizer(config: TrainConfig, updates: int) -> optax.GradientTransformation:
    """AdamW under the one-cycle schedule, for a run of `updates` updates.

    Loshchilov and Hutter 2019, "Decoupled weight decay regularization". Only matrices and kernels
    decay; a bias has nothing to gain from it. A fixed first convolution stays as it is.
    """
    adamw = optax.adamw(
        make_schedule(config, updates),
        b1=config.beta1,
        b2=config.beta2,
        weight_decay=config.weight_decay,
        mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
    )
    if config.stem != "whitened":
        return adamw
    return optax.partition({"trained": adamw, "fixed": optax.set_to_zero()}, _stem_apart)


def _stem_apart(params: Params) -> Params:
    """Which parameters are trained, in the same tree."""
    labels = jax.tree.map(lambda _: "trained", params)
    return labels | {"convs": labels["convs"] | {0: {"kernel": "fixed", "bias": "fixed"}}}
