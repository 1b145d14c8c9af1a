"""One update of the training state, as a pure function of the state and the data.

Nothing here knows how often it is called, or from where: `executor` compiles it and drives it over
an epoch. Everything random follows from the key in the data and the number of the update, so that
an update gives the same result however it is reached.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, UInt8

from jaxdigits.augment import random_affine, random_damage, random_ink
from jaxdigits.config import TrainConfig
from jaxdigits.model import Network, Params

__all__ = [
    "Data",
    "Sums",
    "TrainState",
    "Update",
    "cross_entropy",
    "epoch_order",
    "init_state",
    "make_update",
    "zero_sums",
]


class Sums(NamedTuple):
    """Sums over the images of the current epoch, as they were when they were trained on."""

    loss: Float[Array, ""]
    correct: Int[Array, ""]
    images: Int[Array, ""]


class TrainState(NamedTuple):
    """All that an update changes."""

    step: Int[Array, ""]  # updates made since the start of the run
    params: Params
    opt_state: Any
    sums: Sums


class Data(NamedTuple):
    """All that an update reads: the training split, resident on the device."""

    images: UInt8[Array, "n 28 28 1"]
    labels: Int[Array, " n"]
    order: Int[Array, " padded"]  # this epoch's order of the images, padded to whole batches
    key: jax.Array  # of the run's augmentation


_MOVES = ("max_shift", "max_scale", "max_shear", "max_slant", "max_bend")

Update = Callable[[TrainState, Data], TrainState]


def zero_sums() -> Sums:
    """The sums of an epoch that has not begun."""
    return Sums(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


def init_state(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first update."""
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), zero_sums())


def epoch_order(key: jax.Array, epoch: Int[Array, ""], n: int, batch_size: int) -> Int[Array, " padded"]:
    """A random order of `n` images for an epoch, padded with any to a multiple of the batch size."""
    order = jax.random.permutation(jax.random.fold_in(key, epoch), n)
    return jnp.pad(order, (0, -n % batch_size))


def cross_entropy(
    logits: Float[Array, "batch classes"], labels: Int[Array, " batch"], smoothing: float = 0.0
) -> Float[Array, " batch"]:
    """The cross-entropy of each row against its label, in nats.

    A share `smoothing` of the target's probability is spread over all classes (Szegedy et al. 2016,
    "Rethinking the Inception architecture").
    """
    log_probabilities = jax.nn.log_softmax(logits)
    picked = jnp.take_along_axis(log_probabilities, labels[:, None], axis=1)[:, 0]
    return -(1 - smoothing) * picked - smoothing * log_probabilities.mean(axis=1)


def make_augmentation(config: TrainConfig, updates: int) -> Callable[[jax.Array, Array, Array], Array]:
    """The variations of training images that a configuration asks for, over so many updates.

    Returns:
      A function of a key, of images and of the number of updates made, to images.
    """
    moves = {name: getattr(config, name) for name in _MOVES}

    def vary(key: jax.Array, images: Array, step: Array) -> Array:
        strength = 1 - config.calming * step / updates if config.calming else 1.0
        if any(moves.values()):
            images = random_affine(key, images, **moves, strength=strength)
        if config.ink:
            images = random_ink(jax.random.fold_in(key, 2), images, share=config.ink * strength)
        if config.damage:
            images = random_damage(jax.random.fold_in(key, 3), images, share=config.damage * strength)
        return images

    return vary


def make_update(
    network: Network, optimizer: optax.GradientTransformation, config: TrainConfig, updates: int
) -> Update:
    """The update of this network under this optimizer, one of `updates`, as a pure function.

    The last batch of an epoch may be filled up with images that do not count: each image counts
    once in an epoch, in the loss as in the sums, whatever the batch size.
    """
    vary = make_augmentation(config, updates)

    def loss_of(params: Params, images: Array, labels: Array, weights: Array) -> tuple[Array, Sums]:
        logits = network.apply(params, images)
        losses = cross_entropy(logits, labels, config.label_smoothing)
        correct = (logits.argmax(axis=1) == labels) & (weights > 0)
        total = jnp.sum(losses * weights)
        count = jnp.sum(weights)
        return total / count, Sums(total, correct.sum(dtype=jnp.int32), count.astype(jnp.int32))

    def update(state: TrainState, data: Data) -> TrainState:
        batch = config.batch_size
        start = state.step % (data.order.shape[0] // batch) * batch
        chosen = jax.lax.dynamic_slice(data.order, (start,), (batch,))
        weights = (start + jnp.arange(batch) < data.labels.shape[0]).astype(jnp.float32)
        images, labels = data.images[chosen], data.labels[chosen]
        images = vary(jax.random.fold_in(data.key, state.step), images, state.step)
        gradients, sums = jax.grad(loss_of, has_aux=True)(state.params, images, labels, weights)
        changes, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = jax.tree.map(jnp.add, state.params, changes)
        sums = jax.tree.map(jnp.add, state.sums, sums)
        return TrainState(state.step + 1, params, opt_state, sums)

    return update
