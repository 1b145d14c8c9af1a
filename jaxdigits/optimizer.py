"""A configuration and the number of updates to an Optax gradient transformation."""

import functools
import math
from collections.abc import Hashable
from typing import Any

import jax
import optax

from jaxdigits.config import TrainConfig, peak_rate
from jaxdigits.muon import scale_by_muon
from jaxdigits.network import Params

__all__ = ["make_optimizer", "make_schedule"]

_MUON = 0.4  # root mean square of Muon's changes, in learning rates, so that one rate suits it and AdamW


def make_schedule(config: TrainConfig, updates: int) -> optax.Schedule:
    """The learning rate over a run: a triangle, up from a tenth of the peak and down to nothing.

    Smith and Topin 2018, "Super-convergence", with straight lines: a short run gains from the higher
    rates that they keep for longer than a cosine does. The rise takes a fifth of the updates; under Muon,
    which knows the length of its changes from the first one on, a tenth.
    """
    rise = max(1, updates // (10 if config.optimizer == "muon" else 5))
    peak = peak_rate(config.learning_rate, config.batch_size)
    up = optax.schedules.linear_schedule(peak / 10, peak, rise)
    down = optax.schedules.linear_schedule(peak, 0.0, max(1, updates - rise))
    return optax.schedules.join_schedules([up, down], [rise])


def make_optimizer(config: TrainConfig, updates: int) -> optax.GradientTransformation:
    """The optimizer that a configuration names, under the one-cycle schedule, for a run of `updates` updates.

    AdamW: Loshchilov and Hutter 2019, "Decoupled weight decay regularization". Only matrices and kernels
    decay; a bias has nothing to gain from it. A fixed first convolution stays as it is. Muon (see `muon`)
    takes the kernels that it suits, all but the first and the last, and AdamW the rest.
    """
    schedule = make_schedule(config, updates)
    adamw = optax.adamw(
        schedule,
        b1=config.beta1,
        b2=config.beta2,
        weight_decay=config.weight_decay,
        mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
    )
    if config.stem != "whitened" and config.optimizer == "adamw":
        return adamw
    muon = optax.chain(
        scale_by_muon(config.beta1),
        _of_length(_MUON),
        optax.add_decayed_weights(config.weight_decay),
        optax.scale_by_learning_rate(schedule),
    )
    parts: dict[Hashable, optax.GradientTransformation]
    parts = {"adamw": adamw, "muon": muon, "fixed": optax.set_to_zero()}
    return optax.partition(parts, functools.partial(_parts, config))


def _of_length(root_mean_square: float) -> optax.GradientTransformation:
    """Orthogonal matrices to such a length that their numbers have this root mean square."""

    def scaled(change: Any) -> Any:
        rows, columns = change.size // change.shape[-1], change.shape[-1]
        return change * (root_mean_square * math.sqrt(max(rows, columns)))

    return optax.stateless(lambda changes, _: jax.tree.map(scaled, changes))


def _parts(config: TrainConfig, params: Params) -> Params:
    """Which part of the optimizer takes which parameter, in the same tree."""
    labels = jax.tree.map(lambda _: "adamw", params)
    if config.optimizer == "muon":
        inner = [*list(labels["convs"].values())[1:], labels["hidden"]]
        for layer in inner:
            layer["kernel"] = "muon"
    if config.stem == "whitened":
        labels["convs"][0] = {"kernel": "fixed", "bias": "fixed"}
    return labels
