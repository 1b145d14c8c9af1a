"""One update of the training state, as a pure function of the state and the data.

Nothing here knows how often it is called, or from where: `executor` compiles it and drives it over
an epoch. Everything random follows from the key in the data and the number of the update, so that
an update gives the same result however it is reached. Nor does it know of several devices: where the
columns of `Data.order` are divided among them, so are the images of each update.
"""

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from jaxdigits.augment import random_affine, random_damage, random_ink
from jaxdigits.config import TrainConfig
from jaxdigits.hands import random_hand
from jaxdigits.network import Network, Params, named

if TYPE_CHECKING:
    import optax

__all__ = [
    "Data",
    "Part",
    "Portion",
    "Sums",
    "TrainState",
    "Update",
    "cross_entropy",
    "divisions",
    "epoch_order",
    "init_state",
    "key_data",
    "make_update",
    "order_shape",
    "summed",
    "wrap_key",
    "zero_sums",
]


class Sums(NamedTuple):
    """Sums over the images of the current epoch, as they were when they were trained on."""

    loss: Float[Array | np.ndarray, ""]
    correct: Int[Array | np.ndarray, ""]
    images: Int[Array | np.ndarray, ""]


class TrainState(NamedTuple):
    """All that an update changes."""

    step: Int[Array, ""]  # updates made since the start of the run
    params: Params
    opt_state: dict[str, Array]  # Optax's, by the dotted paths of its leaves: to hold it, no Optax is needed
    sums: Sums


class Data(NamedTuple):
    """All that an update reads: the training split, resident on the device."""

    images: UInt8[Array, "n 28 28 1"]
    labels: Int[Array, " n"]
    order: Int[Array, "updates width"]  # the images of each update of this epoch; n, or more, is none
    key: jax.Array  # of the run's augmentation


_MOVES = ("max_shift", "max_scale", "max_shear", "max_slant", "max_bend", "stretch")

Update = Callable[[TrainState, Data], TrainState]


def zero_sums() -> Sums:
    """The sums of an epoch that has not begun."""
    return Sums(np.zeros((), np.float32), np.zeros((), np.int32), np.zeros((), np.int32))


def key_data(seed: Int[Array, ""] | np.uint32, stack: Callable[[list[Any]], Any] = np.stack) -> Any:
    """What the key of a run's augmentation is made of: uint32 [2], for `wrap_key`.

    Nothing need be compiled for it.

    Args:
      seed: of the run.
      stack: `np.stack`, or `jnp.stack` for a seed that is traced.
    """
    return stack([np.uint32(1), seed])  # any number beside the seed would do


wrap_key = functools.partial(jax.random.wrap_key_data, impl="threefry2x32")


def init_state(params: Params, optimizer: "optax.GradientTransformation") -> TrainState:
    """The state before the first update."""
    return TrainState(jnp.zeros((), jnp.int32), params, named(optimizer.init(params)), zero_sums())


def _unnamed(leaves: dict[str, Array], like: Any) -> Any:
    """The tree of such a structure whose leaves are these."""
    return jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in named(like)])


def epoch_order(
    seed: int, epoch: int, n: int, batch_size: int, multiple: int = 1
) -> Int[np.ndarray, "updates width"]:
    """A random order of `n` images for an epoch, as a row of a batch for each update.

    Each image draws a number of 64 bits, by which they are sorted, from Philox, which has a stream for each
    seed and epoch (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") and gives the same
    numbers in every version of NumPy. On the host that takes 2 to 3 ms for 60,000 images; as a program of
    XLA's it takes a CPU 10 to 30, and is one more to compile.

    The last row is filled up with `n`, the index of no image; and so is every row up to a multiple of
    `multiple`, the number of devices that share it.
    """
    drawn = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(n)
    updates, width = order_shape(n, batch_size, multiple)
    rows = np.pad(np.argsort(drawn).astype(np.int32), (0, -n % batch_size), constant_values=n)
    return np.pad(rows.reshape(updates, -1), ((0, 0), (0, width - batch_size)), constant_values=n)


def order_shape(n: int, batch_size: int, multiple: int = 1) -> tuple[int, int]:
    """The shape of `epoch_order`."""
    return math.ceil(n / batch_size), math.ceil(batch_size / multiple) * multiple


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


def make_augmentation(config: TrainConfig, updates: int) -> Callable[[jax.Array, Array, Array, Array], Array]:
    """The variations of training images that a configuration asks for, over so many updates.

    Returns:
      A function of a key, of images, of their labels and of the number of updates made, to images.
    """
    moves = {name: getattr(config, name) for name in _MOVES}

    def vary(key: jax.Array, images: Array, labels: Array, step: Array) -> Array:
        strength = 1 - config.calming * step / updates if config.calming else 1.0
        if config.hands:
            images = random_hand(jax.random.fold_in(key, 4), images, labels, share=config.hands * strength)
        if any(moves.values()):
            images = random_affine(key, images, **moves, strength=strength)
        if config.ink:
            images = random_ink(jax.random.fold_in(key, 2), images, share=config.ink * strength)
        if config.damage:
            images = random_damage(jax.random.fold_in(key, 3), images, share=config.damage * strength)
        return images

    return vary


def make_update(
    network: Network,
    optimizer: "optax.GradientTransformation",
    config: TrainConfig,
    updates: int,
    portion: "Portion | None" = None,
) -> Update:
    """The update of this network under this optimizer, one of `updates`, as a pure function.

    A batch may be filled up with what is no image, and does not count: each image counts once in an
    epoch, in the loss as in the sums, whatever the batch size and the number of devices.

    Args:
      network: the network.
      optimizer: the optimizer.
      config: the configuration.
      updates: of the whole training.
      portion: of a CPU: how many images have their gradients taken together, by `summed`.
    """
    vary = make_augmentation(config, updates)

    def gradients(params: Params, count: Array, part: Part) -> tuple[Params, Sums]:
        def loss_of(params: Params) -> tuple[Array, Sums]:
            logits = network.apply(params, part.images)
            losses = cross_entropy(logits, part.labels, config.label_smoothing)
            correct = (logits.argmax(axis=1) == part.labels) & (part.weights > 0)
            total, images_here = jnp.sum(losses * part.weights), jnp.sum(part.weights)
            sums = Sums(total, correct.sum(dtype=jnp.int32), images_here.astype(jnp.int32))
            return total / count, sums

        return jax.grad(loss_of, has_aux=True)(params)

    def update(state: TrainState, data: Data) -> TrainState:
        row = state.step % data.order.shape[0]
        chosen = jax.lax.dynamic_index_in_dim(data.order, row, keepdims=False)
        weights = (chosen < data.labels.shape[0]).astype(jnp.float32)
        labels = data.labels[chosen]  # beyond the last one, the last
        # What is drawn at random is drawn for the batch, and does not depend on how it is filled up.
        flat = data.images.reshape(len(data.images), -1)  # XLA copies long rows faster than small squares
        images = flat[chosen[: config.batch_size]].reshape(-1, *data.images.shape[1:])
        shown = labels[: config.batch_size]
        images = vary(jax.random.fold_in(data.key, state.step), images, shown, state.step)
        if len(chosen) > config.batch_size:
            images = jnp.pad(images, ((0, len(chosen) - config.batch_size), (0, 0), (0, 0), (0, 0)))
        whole = Part(images, labels, weights)
        one = functools.partial(gradients, state.params, jnp.sum(weights))
        changes, sums = summed(one, whole, portion) if portion else one(whole)
        opt_state = _unnamed(state.opt_state, jax.eval_shape(optimizer.init, state.params))
        changes, opt_state = optimizer.update(changes, opt_state, state.params)
        params = jax.tree.map(jnp.add, state.params, changes)
        sums = jax.tree.map(jnp.add, state.sums, sums)
        return TrainState(state.step + 1, params, named(opt_state), sums)

    return update


class Part(NamedTuple):
    """The images of an update, or of a part of it."""

    images: UInt8[Array, "batch 28 28 1"] | Float[Array, "batch 28 28 1"]
    labels: Int[Array, " batch"]
    weights: Float[Array, " batch"]


class Portion(NamedTuple):
    """How many images a CPU takes at a time: see `summed`."""

    images: int
    """Of a portion, of which a larger batch has several, one after the other."""
    piece: int
    """Of a piece, of which a portion has several, side by side, at least two."""


def summed(function: Callable[[Part], Any], whole: Part, portion: Portion) -> Any:
    """The sum of a function over a batch, taken in a way that suits a CPU.

    A larger batch, if it is a multiple of the portion, goes portion by portion: of thousands of images at
    once, four fifths of the speed would be lost to memory. Each portion goes in two pieces or more that know
    nothing of each other: where the one leaves a core idle, another takes it. Two take 9% off an update of
    the preset `fast` on two cores, of `standard` up to 3%.

    Args:
      function: of images of which each counts by itself: to a tree of sums over them.
      whole: the batch.
      portion: how many images at a time.
    """
    parts, pieces = divisions(len(whole.labels), portion)
    if parts == 1:
        return _in_pieces(function, whole, pieces)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, whole))

    def add(total: Any, part: Part) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, _in_pieces(function, part, pieces)), None

    return jax.lax.scan(add, zeros, _divided(whole, parts))[0]


def divisions(images: int, portion: Portion) -> tuple[int, int]:
    """How many portions a batch has, one after the other, and how many pieces each of them, side by side.

    The pieces are an even number, or one: as many as a portion has, or as a smaller batch can have. A batch
    that is no multiple of the portion is one, with larger pieces, not more.
    """
    portions, odd = divmod(images, portion.images)
    portions = 1 if odd else max(1, portions)
    images //= portions
    most = min(images, portion.images) // portion.piece
    return portions, next(n for n in (most // 2 * 2, 2, 1) if n and images % n == 0)


def _in_pieces(function: Callable[[Part], Any], whole: Part, pieces: int) -> Any:
    """The sum of a function over so many pieces of a batch."""
    divided = _divided(whole, pieces)
    sums = [function(jax.tree.map(lambda x, i=i: x[i], divided)) for i in range(pieces)]
    return functools.reduce(functools.partial(jax.tree.map, jnp.add), sums)


def _divided(whole: Part, parts: int) -> Part:
    """A batch as so many parts, along a new first axis.

    A part is every so manieth image, and so lies on all the devices that share the batch.
    """
    return jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), whole)
