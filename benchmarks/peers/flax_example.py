"""Flax's own MNIST example.

Source: github.com/google/flax, examples/mnist/train.py, configs/default.py. Published: 99.17% test accuracy
in 7.7 minutes. Convolution 32 of 3x3, ReLU, average-pool 2, convolution 64 of 3x3, ReLU, average-pool 2,
dense 256, ReLU, dense 10; zero-padded convolutions. SGD at rate 0.1 with momentum 0.9, batch 128 without
the last partial batch, shuffled, 10 epochs, pixels/255, float32. As in the original the host dispatches
step after step; one compiled program a step takes the batch out of the data, differentiates and updates.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, UInt8

from benchmarks.peers import Epoch

__all__ = ["SETTINGS", "train"]

EPOCHS = 10
BATCH_SIZE = 128
EVALUATION_BATCH = 1000  # a divisor of 10,000
# Milliseconds a step on two cores of an Intel Xeon with AMX, jax 0.12: float32 85 to 90, bfloat16 103 to 109.
SETTINGS = {"precision": "float32", "program": "one a step, state donated"}

_optimizer = optax.sgd(0.1, momentum=0.9)


class _Network(nnx.Module):
    """The example's network."""

    def __init__(self, rngs: nnx.Rngs):
        self.conv1 = nnx.Conv(1, 32, (3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(32, 64, (3, 3), rngs=rngs)
        self.dense1 = nnx.Linear(3136, 256, rngs=rngs)
        self.dense2 = nnx.Linear(256, 10, rngs=rngs)

    def __call__(self, x: Float[Array, "b 28 28 1"]) -> Float[Array, "b 10"]:
        pool = partial(nnx.avg_pool, window_shape=(2, 2), strides=(2, 2))
        x = pool(nnx.relu(self.conv1(x)))
        x = pool(nnx.relu(self.conv2(x)))
        return self.dense2(nnx.relu(self.dense1(x.reshape(len(x), -1))))


def train(
    images: UInt8[np.ndarray, "n 28 28 1"],
    labels: UInt8[np.ndarray, " n"],
    test_images: UInt8[np.ndarray, "m 28 28 1"],
    test_labels: UInt8[np.ndarray, " m"],
    *,
    seed: int,
    epochs: int | None = None,
) -> Iterator[Epoch]:
    """Trains by the recipe; see `benchmarks.peers`."""
    x, y = jnp.asarray(images, jnp.float32) / 255, jnp.asarray(labels, jnp.int32)
    test_x = (jnp.asarray(test_images, jnp.float32) / 255).reshape(-1, EVALUATION_BATCH, 28, 28, 1)

    def start() -> tuple[nnx.GraphDef, Any]:
        graph, params = nnx.split(_Network(nnx.Rngs(seed)), nnx.Param)
        return graph, (params, _optimizer.init(params))

    graph, state = start()
    step, predict = _compiled(graph)
    # The whole set's shapes are part of the program: warms up on as many black images.
    black, first = jnp.zeros_like(x), jnp.arange(BATCH_SIZE)
    for _ in range(3):
        state = step(state, black, y, first)
    jax.block_until_ready((state, jax.random.permutation(jax.random.key(0), len(x))))
    del black

    _, state = start()
    key = jax.random.key(seed)
    steps = len(x) // BATCH_SIZE
    seconds = 0.0
    for epoch in range(epochs or EPOCHS):
        started = time.perf_counter()
        order = np.asarray(jax.random.permutation(jax.random.fold_in(key, epoch), len(x)))
        for index in order[: steps * BATCH_SIZE].reshape(steps, BATCH_SIZE):
            state = step(state, x, y, index)
        jax.block_until_ready(state)
        seconds += time.perf_counter() - started
        predictions = np.concatenate([predict(state, batch) for batch in test_x])
        yield Epoch(seconds, int((predictions == test_labels).sum()) / len(test_labels))


def _compiled(graph: nnx.GraphDef) -> tuple[Callable[..., Any], Callable[..., Array]]:
    """The programs that make one update, and that classify one batch."""

    def loss(params: Any, x: Float[Array, "b 28 28 1"], y: Int[Array, " b"]) -> Float[Array, ""]:
        logits = nnx.merge(graph, params)(x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    @partial(jax.jit, donate_argnums=0)
    def step(state: Any, x: Array, y: Array, index: Int[Array, " b"]) -> Any:
        params, momentum = state
        updates, momentum = _optimizer.update(jax.grad(loss)(params, x[index], y[index]), momentum)
        return optax.apply_updates(params, updates), momentum

    @jax.jit
    def predict(state: Any, x: Float[Array, "b 28 28 1"]) -> Int[Array, " b"]:
        return nnx.merge(graph, state[0])(x).argmax(1)

    return step, predict
