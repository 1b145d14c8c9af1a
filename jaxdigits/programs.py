"""All that a training has compiled and put on the device before its first update."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxdigits import dataset, preparer
from jaxdigits import mesh as meshes
from jaxdigits.compiling import Compiled, Plan, compile_programs, make_executor
from jaxdigits.config import TrainConfig
from jaxdigits.device import Device
from jaxdigits.kept import Kept
from jaxdigits.network import Params, draw, shapes_of
from jaxdigits.splits import MNIST_IMAGES, Splits, taught
from jaxdigits.step import Data, TrainState, epoch_order, key_data, order_shape, wrap_key
from jaxdigits.whitening import whitened_filters

__all__ = ["Ahead", "Programs", "ahead"]

_SMALL = 512  # images of an update that is sooner made in vain than its first one is waited for


class Ahead(NamedTuple):
    """Programs that are there before the images are.

    Attributes:
      plan: of the training that they are for.
      compiled: the programs.
    """

    plan: Plan
    compiled: Compiled


def ahead(config: TrainConfig, device: Device, say: Callable[[str], None]) -> Ahead | None:
    """The programs of a training whose images have yet to be prepared, which is done beside: seconds each.

    How many images there are is known beforehand of the packaged MNIST alone. With anything else, or where
    programs go to JAX's own cache, nothing is done ahead.

    Args:
      config: what to do.
      device: where.
      say: takes a line for the user.
    """
    packaged = config.dataset == "mnist" and config.data_dir is None
    if not packaged or jax.process_count() > 1 or not Kept.possible(device) or not dataset.lacking("mnist"):
        return None
    plan = Plan.of(config, taught(config, MNIST_IMAGES), classes=10)
    with preparer.beside("mnist", say):
        return Ahead(plan, _kept_or_new(config, plan, _mesh(config, device)))


def _mesh(config: TrainConfig, device: Device) -> Mesh:
    return meshes.make_mesh(meshes.choose(config.mesh["data"], device))


def _kept_or_new(config: TrainConfig, plan: Plan, mesh: Mesh) -> Compiled:
    """The programs that an earlier training has left, or new ones, left for later trainings."""

    def other(count: int) -> jax.stages.Compiled:
        return make_executor(config, plan, mesh).compile(count)

    device = mesh.devices.flat[0]
    kept = Kept(config, plan, device) if Kept.possible(device) else None
    if kept and (found := kept.load(mesh, other)):
        return found
    programs = compile_programs(config, plan, mesh)
    if kept:
        kept.save(programs)
    return programs


class Programs:
    """The compiled programs of a training, its data on the device, and its first state.

    Args:
      config: what to do.
      device: where, or the first of several.
      splits: the images.
      early: programs that may be those of this training.

    Attributes:
      mesh: the devices.
      updates_per_epoch: in a whole epoch.
      updates: in the whole training.
      executor: makes updates.
      evaluator: measures parameters.
      initial: the state before the first update.
      shapes: those of a state.
      training_seconds: how long the first parameters took, some of which are computed from the images.
    """

    def __init__(self, config: TrainConfig, device: Device, splits: Splits, early: Ahead | None = None):
        plan, self.mesh = Plan.of(config, splits.taught, len(splits.class_names)), _mesh(config, device)
        self.updates_per_epoch, self.updates = plan.updates_per_epoch, plan.updates
        self._config, self._splits = config, splits
        self._ahead: dict[int, Future[jax.Array]] = {}  # orders that are under way
        params = shapes_of(config.channels, config.hidden, plan.outputs)
        key = wrap_key(meshes.copies(self.mesh, key_data(np.uint32(config.seed))))
        with ThreadPoolExecutor(max_workers=1) as pool:
            drawing = pool.submit(self._drawn, params)
            self._data = Data(*splits.resident(self.mesh), None, key)  # pyright: ignore[reportArgumentType]
            if early and early.plan == plan:
                self._compiled = early.compiled
            else:
                self._compiled = _kept_or_new(config, plan, self.mesh)
            first, self.training_seconds = drawing.result()
        self.initial: TrainState = self._compiled.begin(first)
        self.shapes: TrainState = meshes.shapes_on(meshes.replicated(self.mesh), self.initial)
        self.executor, self.evaluator = self._compiled.executor, self._compiled.evaluator
        if self.executor.any_count and self.mesh.size == 1 and config.batch_size <= _SMALL:
            self._warm_up(params)
        jax.block_until_ready((self._data, self.initial))

    def _drawn(self, shapes: Params) -> tuple[Params, float]:
        """The first parameters, made beside what else is to be done, and how many seconds they took."""
        began, config = time.perf_counter(), self._config
        random = config.stem == "random"
        stem = None if random else whitened_filters(self._splits.train.images, config.channels[0])
        return draw(shapes, config.seed, stem), time.perf_counter() - began

    def _warm_up(self, shapes: Params) -> None:
        """Makes an update of parameters that are zero, which is dropped.

        The first update takes 50 ms more than the others: a CPU's library of products (oneDNN) makes its
        machine code when it is first called, and the memory is new.
        """
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        order = np.zeros(order_shape(self._splits.taught, self._config.batch_size), np.int32)
        state = self._compiled.begin(zeros)
        jax.block_until_ready(self.executor(state, self._data._replace(order=order), 1))

    def data_of(self, epoch: int) -> Data:
        """The data in the order of an epoch, counted from 0."""
        order = self._ahead.pop(epoch).result() if epoch in self._ahead else self._order(epoch)
        return self._data._replace(order=order)

    def prepare(self, epoch: int) -> None:
        """Begins to make the order of an epoch beside all else, if the training has that epoch.

        `data_of` then need not make it: that takes 3 ms, in which a GPU makes 20 updates.
        """
        if epoch * self.updates_per_epoch < self.updates:
            pool = ThreadPoolExecutor(max_workers=1)
            self._ahead[epoch] = pool.submit(self._order, epoch)
            pool.shutdown(wait=False)

    def _order(self, epoch: int) -> jax.Array:
        """The order of an epoch, on the devices."""
        config, shares = self._config, self.mesh.shape["data"]
        order = epoch_order(config.seed, epoch, self._splits.taught, config.batch_size, shares)
        return meshes.divided(self.mesh, order, None, "data")

    def learning_rate(self, step: int) -> float:
        """That of an update, counted from 0."""
        return float(self._compiled.rate(np.int32(step)))
