"""How updates are driven: many in one XLA program, or one by one.

There is one update function (`step`) and one compiled program around it, a loop. How many updates a
call makes is up to the caller: 1 drives it step by step, a number in between keeps the host in
touch, a whole epoch leaves the device alone until the epoch is over.

On a CPU the count is an argument of the program: one compilation serves every count, and since it
is the same program, the weights cannot depend on how the updates were divided. On an accelerator a
loop of unknown length would ask the host before each turn whether to go on; there the count is
compiled in, and a training takes few different ones.

On several devices the program is the same one on each of them: it is compiled for where the arrays lie.
"""

import math
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdigits.device import compiler_options
from jaxdigits.step import Data, TrainState, Update

__all__ = ["Executor", "Pace"]


class Executor:
    """The compiled loop around an update.

    Args:
      program: gives the loop for so many updates, compiled; or, called with None, one for every count.
      any_count: whether one serves every count.
    """

    def __init__(self, program: Callable[[int | None], jax.stages.Compiled], *, any_count: bool):
        self._program, self.any_count = program, any_count
        self._programs: dict[int | None, jax.stages.Compiled] = {}

    @classmethod
    def of(cls, update: Update, state: TrainState, data: Data, *, any_count: bool) -> "Executor":
        """One that compiles what it needs.

        Args:
          update: the pure update.
          state: the state to begin with, or its shapes; with a sharding, that of every later state as well.
          data: the data, or its shapes.
          any_count: compile once for every count, instead of once for each.
        """

        def advance(state: TrainState, data: Data, count: int | jax.Array) -> TrainState:
            return jax.lax.fori_loop(0, count, lambda _, state: update(state, data), state)

        static = () if any_count else ("count",)
        places = jax.tree.map(lambda leaf: getattr(leaf, "sharding", None), state)
        devices = {device for place in jax.tree.leaves(places) for device in place.device_set}
        platform = next((device.platform for device in devices), jax.default_backend())
        jitted = jax.jit(
            advance,
            donate_argnames="state",
            static_argnames=static,
            out_shardings=places,
            compiler_options=compiler_options(platform, max(1, len(devices))),
        )

        def program(count: int | None) -> jax.stages.Compiled:
            given = jax.ShapeDtypeStruct((), jnp.int32) if count is None else count
            return jitted.lower(state, data, count=given).compile()

        return cls(program, any_count=any_count)

    def compile(self, count: int) -> jax.stages.Compiled:
        """The program for `count` updates, compiled unless it already is."""
        key = None if self.any_count else count
        if key not in self._programs:
            self._programs[key] = self._program(key)
        return self._programs[key]

    def __call__(self, state: TrainState, data: Data, count: int) -> TrainState:
        """The state after `count` more updates. The one given is used up: its memory is reused."""
        program = self.compile(count)
        return program(state, data, count=np.int32(count)) if self.any_count else program(state, data)


class Pace:
    """Chooses how many updates to make before the host looks up again, from how long they take.

    Args:
      interval: seconds between two looks; infinite for none before all updates are made.
      deadline: a time of `time.perf_counter` at whose passing to stop, to the update; or None.
    """

    def __init__(self, interval: float, deadline: float | None = None):
        self.interval, self.deadline = interval, deadline
        self._seconds_per_update: float | None = None

    def updates(self, most: int) -> int:
        """How many updates to make now, from 1 to `most`."""
        if self.deadline is None and self.interval == math.inf:
            return most
        if self._seconds_per_update is None:
            return 1
        seconds = self.interval
        if self.deadline is not None:
            seconds = min(seconds, self.deadline - time.perf_counter())
        return max(1, min(most, int(seconds / self._seconds_per_update)))

    def took(self, updates: int, seconds: float) -> None:
        """Tells how long some updates took."""
        self._seconds_per_update = max(seconds / updates, 1e-9)

    @property
    def over(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.perf_counter() >= self.deadline
