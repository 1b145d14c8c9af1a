"""Exact figures of a model over a whole split: every image counts once, whatever the batch size.

The device turns images into logits, batch by batch, the last one padded; the host takes them all in
one transfer, drops the padding and counts. Several devices share each batch, and a process reads its share
alone of images that are on disk.
"""

import dataclasses
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Float, Int, UInt8

from jaxdigits import child
from jaxdigits import mesh as meshes
from jaxdigits.device import compiler_options
from jaxdigits.network import Network, Params

__all__ = [
    "Evaluation",
    "Evaluator",
    "average_views",
    "fit_temperature",
    "in_portions",
    "of_all_views",
    "shift",
    "views_of",
    "wilson_interval",
]

Array = TypeVar("Array", np.ndarray, jax.Array)  # on the host as on a device

# Down and right, in pixels: the image itself, its four neighbours, the four corners.
_SHIFTS = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))


def shift(images: UInt8[Array, "n 28 28 1"], down: int, right: int) -> UInt8[Array, "n 28 28 1"]:
    """The images moved by so many pixels, less than 28; what comes in is black."""
    rows, columns = (slice(max(-by, 0), 28 - max(by, 0)) for by in (down, right))
    black = ((0, 0), *((max(by, 0), max(-by, 0)) for by in (down, right)), (0, 0))
    return _numpy_for(images).pad(images[:, rows, columns], black)


def views_of(images: UInt8[Array, "n 28 28 1"], count: int) -> list[UInt8[Array, "n 28 28 1"]]:
    """The images, and shifts of them by a pixel: `count` views in all, at most 9."""
    return [shift(images, *by) if any(by) else images for by in _SHIFTS[:count]]


def average_views(logits: Float[Array, "views n classes"]) -> Float[Array, "n classes"]:
    """The mean of the views' log-probabilities: of one view, its logits as they are."""
    numpy, each = _numpy_for(logits), cast(Any, logits)
    if len(each) == 1:
        return each[0]
    with np.errstate(invalid="ignore"):  # of logits that are not finite, which come out as NaN
        each = each - each.max(axis=-1, keepdims=True)
        return (each - numpy.log(numpy.exp(each).sum(axis=-1, keepdims=True))).mean(axis=0)


def _numpy_for(values: np.ndarray | jax.Array) -> Any:
    """The functions of NumPy for what is NumPy's, and JAX's, which have the same names, for what is not."""
    return jnp if isinstance(values, jax.Array) else np


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a model says of a split, and how often it is right.

    Attributes:
      logits: float32 [n, outputs].
      labels: integers [n].
      none_class: whether the last output means 'none of the classes'. All figures are of the classes alone.
    """

    logits: Float[np.ndarray, "n outputs"]
    labels: Int[np.ndarray, " n"]
    none_class: bool = False

    @property
    def of_classes(self) -> Float[np.ndarray, "n classes"]:
        """The logits of the classes."""
        return self.logits[:, : self.logits.shape[1] - self.none_class]

    @property
    def total(self) -> int:
        """How many images there are."""
        return len(self.labels)

    @property
    def predictions(self) -> Int[np.ndarray, " n"]:
        """The most probable class of each image."""
        return self.of_classes.argmax(axis=1)

    @property
    def correct(self) -> int:
        """How many images are classified rightly."""
        return int((self.predictions == self.labels).sum())

    @property
    def accuracy(self) -> float:
        """The share of images that are classified rightly, from 0 to 1."""
        return self.correct / self.total

    @property
    def log_probabilities(self) -> Float[np.ndarray, "n classes"]:
        """The logarithm of each class's probability, in float64."""
        logits = self.of_classes.astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    @property
    def loss(self) -> float:
        """The mean cross-entropy, in nats."""
        return float(-self.log_probabilities[np.arange(self.total), self.labels].sum() / self.total)

    @property
    def calibration_error(self) -> float:
        """The expected calibration error, from 0 to 1: how far probabilities are from what proves right.

        Mean over 15 equal bins of the highest probability, weighted by their images (Guo et al. 2017, "On
        calibration of modern neural networks").
        """
        certainty = np.exp(self.log_probabilities.max(axis=1))
        bins = np.minimum((certainty * 15).astype(int), 14)
        gaps = np.bincount(bins, weights=certainty - (self.predictions == self.labels), minlength=15)
        return float(np.abs(gaps).sum() / self.total)

    def at(self, temperature: float) -> "Evaluation":
        """The same with probabilities at another temperature: logits divided by it."""
        return dataclasses.replace(self, logits=self.logits / np.float32(temperature))

    @property
    def confusion(self) -> Int[np.ndarray, "classes classes"]:
        """How many images of each class (rows) were taken for each class (columns)."""
        classes = self.of_classes.shape[1]
        pairs = self.labels.astype(np.int64) * classes + self.predictions
        return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def in_portions(network: Network, portion: int) -> Callable[[Params, jax.Array], jax.Array]:
    """The network's `apply`, for batches of any number of portions, which go through it one by one.

    On a CPU a few dozen images stay in its cache, and take half the time of many at once.
    """

    def apply(params: Params, images: jax.Array) -> jax.Array:
        if len(images) <= portion:
            return network.apply(params, images)
        portions = images.reshape(-1, portion, *images.shape[1:])
        logits = jax.lax.map(lambda images: network.apply(params, images), portions)
        return logits.reshape(len(images), -1)

    return apply


def of_all_views(network: Network, views: int) -> Callable[[Params, jax.Array], jax.Array]:
    """The network's `apply`, averaged over so many views of each image: for a few images, in one program."""

    def apply(params: Params, images: jax.Array) -> jax.Array:
        logits = network.apply(params, jnp.concatenate(views_of(images, views)))
        return average_views(logits.reshape(views, len(images), -1))

    return apply


class Evaluator:
    """Runs a network's compiled forward pass over splits of any size.

    Args:
      program: the pass, compiled: parameters and images to logits.
      batch_size: how many images it is compiled for.
      mesh: the devices that share them.
    """

    def __init__(self, program: Callable[[Params, jax.Array], jax.Array], batch_size: int, mesh: Mesh):
        self.program, self.batch_size = program, batch_size
        self._divided = meshes.along(mesh, "data")
        # A call leaves a core of a CPU idle every now and then, which another one takes. But of several CPU
        # devices two calls under way can each wait for ever for the other's threads.
        self._threads = child.cores() if mesh.size == 1 else 1
        self._ahead = mesh.devices.flat[0].platform != "cpu"  # nobody need wait between two calls

    @classmethod
    def compile(
        cls,
        network: Network,
        params: Params,
        batch_size: int = 4096,
        portion: int = 64,
        mesh: Mesh | None = None,
    ) -> "Evaluator":
        """Compiles the pass.

        Args:
          network: the network.
          params: its parameters, or their shapes.
          batch_size: images per call of the compiled program, at least; more where the devices cannot
            share so many evenly, in whole portions.
          portion: images that go through the network together within the call: see `in_portions`.
          mesh: the devices; by default one.
        """
        mesh = mesh or meshes.make_mesh(jax.local_devices()[:1])
        share = math.ceil(batch_size / mesh.shape["data"])
        share = math.ceil(share / portion) * portion if share > portion else share
        batch_size = share * mesh.shape["data"]
        apply = jax.shard_map(
            in_portions(network, portion), mesh=mesh, in_specs=(P(), P("data")), out_specs=P("data")
        )
        divided = meshes.along(mesh, "data")
        images = jax.ShapeDtypeStruct((batch_size, 28, 28, 1), jnp.uint8, sharding=divided)
        options = compiler_options(mesh.devices.flat[0].platform, mesh.size)
        program = jax.jit(apply, out_shardings=meshes.replicated(mesh), compiler_options=options)
        params = meshes.shapes_on(meshes.replicated(mesh), params)
        return cls(program.lower(params, images).compile(), batch_size, mesh)

    def logits(
        self, params: Params, images: UInt8[np.ndarray, "n 28 28 1"], views: int = 1
    ) -> Float[np.ndarray, "n classes"]:
        """The logits of any number of images.

        With several `views` the answer to an image is the average over it and shifts of it by a pixel.
        """
        starts = range(0, max(len(images), 1), self.batch_size)
        batches = (images[start : start + self.batch_size] for start in starts)
        filled = (meshes.own_rows(self._divided, batch, self.batch_size) for batch in batches)
        each = [view for batch in filled for view in views_of(batch, views)]

        def run(view: np.ndarray) -> jax.Array:
            shares = jax.make_array_from_callback(view.shape, self._divided, view.__getitem__)
            return self.program(params, shares)

        if self._ahead:
            found = jax.device_get([run(view) for view in each])
        else:
            with ThreadPoolExecutor(self._threads) as pool:
                found = [*pool.map(lambda view: np.asarray(jax.block_until_ready(run(view))), each)]
        logits = [np.concatenate(found[view::views])[: len(images)] for view in range(views)]
        return average_views(np.stack(logits))

    def __call__(self, params: Params, images: np.ndarray, labels: np.ndarray, views: int = 1) -> Evaluation:
        """Evaluates the parameters on a split: images uint8 [n, 28, 28, 1], labels integers [n]."""
        return Evaluation(self.logits(params, images, views), labels)


def fit_temperature(evaluation: Evaluation) -> float:
    """The temperature, from 0.1 to 10, at which probabilities fit the labels best: of the lowest loss.

    One number, so that nothing but confidence changes (Guo et al. 2017, "On calibration of modern neural
    networks"). The loss is convex in its inverse, and a golden-section search finds it.
    """
    low, high, golden = 0.1, 10.0, (math.sqrt(5) - 1) / 2  # inverse temperatures
    for _ in range(40):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if evaluation.at(1 / left).loss < evaluation.at(1 / right).loss:
            high = right
        else:
            low = left
    return 2 / (low + high)


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """The 95% confidence interval of a share, by Wilson's score (1927), from 0 to 1: all of it, of nothing.

    >>> low, high = wilson_interval(9900, 10000)
    >>> print(f"{low:.4f} {high:.4f}")
    0.9879 0.9918
    """
    if not total:
        return 0.0, 1.0
    z = 1.959964  # 97.5% quantile of the standard normal distribution
    share = correct / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return max(0.0, middle - half), min(1.0, middle + half)
