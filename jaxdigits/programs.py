"""All that a training has compiled and put on the device before its first update."""

import math
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from jaxdigits import mesh as meshes
from jaxdigits.compiling import Compiled, Plan, compile_programs
from jaxdigits.config import TrainConfig
from jaxdigits.device import Device
from jaxdigits.kept import Kept
from jaxdigits.network import Params, draw, shapes_of
from jaxdigits.splits import Splits
from jaxdigits.step import Data, TrainState, key_data, wrap_key
from jaxdigits.whitening import whitened_filters

__all__ = ["Programs"]

_SMALL = 512  # images of an update that is sooner made in vain than its first one is waited for


class Programs:
    """The compiled programs of a training, its data on the device, and its first state.

    Args:
      config: what to do.
      device: where, or the first of several.
      splits: the images.

    Attributes:
      mesh: the devices.
      updates_per_epoch: in a whole epoch.
      updates: in the whole training.
      executor: makes updates.
      evaluator: measures parameters.
      data: on the devices, in the order of the first epoch.
      initial: the state before the first update.
      shapes: those of a state.
    """

    def __init__(self, config: TrainConfig, device: Device, splits: Splits):
        n = splits.taught
        self.updates_per_epoch = math.ceil(n / config.batch_size)
        self.updates = config.updates(self.updates_per_epoch)
        self.mesh = meshes.make_mesh(meshes.choose(config.mesh["data"], device))
        outputs = len(splits.class_names) + (config.non_digits > 0)
        plan = Plan(n, self.updates_per_epoch, self.updates, outputs)
        shapes, filters = shapes_of(config.channels, config.hidden, outputs), config.channels[0]
        self._order_key, augment_key = map(
            wrap_key, meshes.copies(self.mesh, key_data(np.uint32(config.seed)))
        )
        with ThreadPoolExecutor(max_workers=1) as pool:
            random = config.stem == "random"
            stem = None if random else pool.submit(whitened_filters, splits.train.images, filters)
            data = Data(*splits.resident(self.mesh), None, augment_key)  # pyright: ignore[reportArgumentType]
            self._compiled = self._kept_or_new(config, plan, device, data)
            pays = self._compiled.executor.any_count and self.mesh.size == 1 and config.batch_size <= _SMALL
            warming = pool.submit(self._warm_up, shapes, data, config.batch_size) if pays else None
            self.data = data._replace(order=self._order(0))
            params = draw(shapes, config.seed, stem.result() if stem else None)
            if warming:
                warming.result()
        self.initial: TrainState = self._compiled.begin(params)
        self.shapes: TrainState = meshes.shapes_on(meshes.replicated(self.mesh), self.initial)
        self.executor, self.evaluator = self._compiled.executor, self._compiled.evaluator
        jax.block_until_ready(self.data)

    def _kept_or_new(self, config: TrainConfig, plan: Plan, device: Device, data: Data) -> Compiled:
        """The programs that an earlier training has left, or new ones, left for later trainings."""
        kept = Kept(config, plan, device) if Kept.possible(device) else None
        if kept and (found := kept.load(self.mesh)):
            return found
        programs = compile_programs(config, plan, device.platform, self.mesh, data)
        if kept:
            kept.save(programs)
        return programs

    def _warm_up(self, shapes: Params, data: Data, width: int) -> None:
        """Makes an update that is dropped, beside what else is to be done.

        The first update takes 50 ms more than the others: a CPU's library of products (oneDNN) makes its
        machine code when it is first called, and the memory is new.
        """
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        order = np.zeros((self.updates_per_epoch, width), np.int32)
        state = self._compiled.begin(zeros)
        jax.block_until_ready(self._compiled.executor(state, data._replace(order=order), 1))

    def _order(self, epoch: int) -> jax.Array:
        return self._compiled.order(self._order_key, np.int32(epoch))

    def data_of(self, epoch: int) -> Data:
        """The data in the order of an epoch, counted from 0."""
        return self.data._replace(order=self._order(epoch)) if epoch else self.data

    def learning_rate(self, step: int) -> float:
        """That of an update, counted from 0."""
        return float(self._compiled.rate(np.int32(step)))
