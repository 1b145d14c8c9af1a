"""All that a training has compiled and put on the device before its first update."""

import math
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import jax
import numpy as np

from jaxdigits import mesh as meshes
from jaxdigits.config import TrainConfig
from jaxdigits.device import Device
from jaxdigits.evaluate import Evaluator
from jaxdigits.executor import Executor
from jaxdigits.model import build, fastest_form
from jaxdigits.optimizer import make_optimizer, make_schedule
from jaxdigits.splits import Splits
from jaxdigits.step import Data, TrainState, epoch_order, init_state, key_data, make_update, wrap_key
from jaxdigits.whitening import whitened_filters

__all__ = ["Programs"]

_AT_ONCE = 128  # images whose gradients a CPU device takes together: what they need stays in its cache


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
      schedule: the number of an update to its learning rate.
      executor: makes updates.
      evaluator: measures parameters.
      data: on the devices, in the order of the first epoch.
      initial: the state before the first update.
      shapes: those of a state.
    """

    def __init__(self, config: TrainConfig, device: Device, splits: Splits):
        n = splits.taught
        self.updates_per_epoch = math.ceil(n / config.batch_size)
        self.updates = min(self.updates_per_epoch * config.epochs, config.max_updates or sys.maxsize)
        self.schedule = jax.jit(make_schedule(config, self.updates))
        self.mesh = meshes.make_mesh(meshes.choose(config.mesh["data"], device))
        shares = self.mesh.shape["data"]
        self._order_key, augment_key = map(
            wrap_key, meshes.copies(self.mesh, key_data(np.uint32(config.seed)))
        )
        self._order = jax.jit(
            lambda key, epoch: epoch_order(key, epoch, n, config.batch_size, shares),
            out_shardings=meshes.along(self.mesh, None, "data"),
        )
        self._compile(config, device.platform, splits, augment_key)

    def _compile(self, config: TrainConfig, platform: str, splits: Splits, augment_key: jax.Array) -> None:
        """Compiles all programs, and takes data and state to the devices, side by side.

        The programs are compiled from shapes alone, so none need wait for another's result.
        """
        outputs = len(splits.class_names) + (config.non_digits > 0)
        sizes = (config.channels, config.hidden, outputs)
        fixed = config.stem == "whitened"
        network = build(*sizes, form=fastest_form(platform), dtype=config.dtype, fixed_stem=fixed)
        optimizer = make_optimizer(config, self.updates)
        everywhere, epoch = meshes.replicated(self.mesh), np.int32(0)
        init = jax.jit(lambda params: init_state(params, optimizer), out_shardings=everywhere)
        images, labels = splits.resident(self.mesh)
        shapes = Data(images, labels, jax.eval_shape(self._order, self._order_key, epoch), augment_key)
        state = cast(TrainState, meshes.shapes_on(everywhere, jax.eval_shape(init, network.shapes)))
        self.shapes = state
        any_count = platform == "cpu" or config.max_seconds is not None
        at_once = _AT_ONCE * self.mesh.shape["data"] if platform == "cpu" else None
        update = make_update(network, optimizer, config, self.updates, at_once)
        self.executor = Executor(update, state, shapes, any_count=any_count)
        # On a CPU a call costs little, and small ones leave little of the last one empty.
        measured, portion = (1024, 64) if platform == "cpu" else (4096, 4096)
        with ThreadPoolExecutor(max_workers=3) as pool:
            compiling = pool.submit(self.executor.compile, min(self.updates_per_epoch, self.updates))
            ordering = pool.submit(self._order, self._order_key, epoch)
            evaluator = pool.submit(Evaluator, network, state.params, measured, portion, self.mesh)
            stem = None if config.stem == "random" else whitened_filters(splits.train.images, sizes[0][0])
            self.initial: TrainState = init(network.init(config.seed, stem))
            self.data = shapes._replace(order=ordering.result())
            self.evaluator = evaluator.result()
            compiling.result()
        jax.block_until_ready(self.data)

    def data_of(self, epoch: int) -> Data:
        """The data in the order of an epoch, counted from 0."""
        return self.data._replace(order=self._order(self._order_key, np.int32(epoch)))
