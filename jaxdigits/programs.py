"""All that a training has compiled and put on the device before its first update."""

import math
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxdigits.config import TrainConfig
from jaxdigits.device import Device
from jaxdigits.evaluate import Evaluator
from jaxdigits.executor import Executor
from jaxdigits.model import build, fastest_form
from jaxdigits.optimizer import make_optimizer, make_schedule
from jaxdigits.splits import Splits
from jaxdigits.step import Data, TrainState, epoch_order, init_state, make_update
from jaxdigits.whitening import whitened_filters

__all__ = ["Programs"]


class Programs:
    """The compiled programs of a training, its data on the device, and its first state.

    Args:
      config: what to do.
      device: where.
      splits: the images.

    Attributes:
      updates_per_epoch: in a whole epoch.
      updates: in the whole training.
      schedule: the number of an update to its learning rate.
      executor: makes updates.
      evaluator: measures parameters.
      data: on the device, in the order of the first epoch.
      initial: the state before the first update.
      shapes: those of a state.
    """

    def __init__(self, config: TrainConfig, device: Device, splits: Splits):
        n = len(splits.taught.labels)
        self.updates_per_epoch = math.ceil(n / config.batch_size)
        self.updates = min(self.updates_per_epoch * config.epochs, config.max_updates or sys.maxsize)
        self.schedule = jax.jit(make_schedule(config, self.updates))
        keys = jax.jit(lambda seed: tuple(jax.random.split(jax.random.key(seed))))
        self._order_key, augment_key = keys(np.uint32(config.seed))
        self._order = jax.jit(lambda key, epoch: epoch_order(key, epoch, n, config.batch_size))
        self._compile(config, device, splits, augment_key)

    def _compile(self, config: TrainConfig, device: Device, splits: Splits, augment_key: jax.Array) -> None:
        """Compiles all programs, and takes data and state to the device, side by side.

        The programs are compiled from shapes alone, so none need wait for another's result.
        """
        outputs = len(splits.class_names) + (config.non_digits > 0)
        sizes = (config.channels, config.hidden, outputs)
        fixed = config.stem == "whitened"
        network = build(*sizes, form=fastest_form(device.platform), dtype=config.dtype, fixed_stem=fixed)
        optimizer = make_optimizer(config, self.updates)
        init = jax.jit(lambda params: init_state(params, optimizer))
        epoch = jnp.int32(0)
        taught = splits.taught.images, splits.taught.labels.astype(np.int32)
        images, labels = jax.device_put(taught, device)
        shapes = Data(images, labels, jax.eval_shape(self._order, self._order_key, epoch), augment_key)
        self.shapes = state = cast(TrainState, jax.eval_shape(init, network.shapes))
        any_count = device.platform == "cpu" or config.max_seconds is not None
        update = make_update(network, optimizer, config, self.updates)
        self.executor = Executor(update, state, shapes, any_count=any_count)
        portion = 64 if device.platform == "cpu" else 4096
        with ThreadPoolExecutor(max_workers=3) as pool:
            compiling = pool.submit(self.executor.compile, min(self.updates_per_epoch, self.updates))
            evaluator = pool.submit(Evaluator, network, state.params, batch_size=4096, portion=portion)
            stem = None if config.stem == "random" else whitened_filters(splits.train.images, sizes[0][0])
            starting = pool.submit(init, network.init(config.seed, stem))
            self.data = shapes._replace(order=self._order(self._order_key, epoch))
            self.initial: TrainState = starting.result()
            self.evaluator = evaluator.result()
            compiling.result()
        jax.block_until_ready(self.data)

    def data_of(self, epoch: int) -> Data:
        """The data in the order of an epoch, counted from 0."""
        return self.data._replace(order=self._order(self._order_key, jnp.int32(epoch)))
