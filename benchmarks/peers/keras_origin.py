"""The Keras network that this project set out to replace.

Source: the scripts of a small Keras project for handwritten digits, of which this library is the successor.
Published: 99.51% training and 98.15% test accuracy after 10 epochs, in about one minute on a GPU; its
notebook shows 46 to 58 s an epoch and 98.24%. Convolution 64 of 3x3, ReLU, convolution 32 of 3x3, ReLU,
max-pool 2, dense 10 with softmax; unpadded: 65,194 parameters. Adam at its default rate, cross-entropy,
batch 32, shuffled, 10 epochs, pixels/255.

Keras runs on the backend that KERAS_BACKEND names when this module is imported.
"""

import importlib
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from benchmarks.peers import Epoch, multiplies_bfloat16

keras: Any = importlib.import_module(
    "keras"
)  # not a dependency of this library, and unknown to its type checks

__all__ = ["SETTINGS", "train"]


def _on_gpu() -> bool:
    """Whether Keras runs on JAX, and JAX on an accelerator."""
    return keras.backend.backend() == "jax" and jax.default_backend() != "cpu"


EPOCHS = 10
BATCH_SIZE = 32
EVALUATION_BATCH = 1000  # a divisor of 10,000

# Milliseconds a step on two cores, Keras 3.15, short runs on a shared machine. In float32 on an EPYC: with
# TensorFlow 2.21 52 with and without XLA, which takes 3 s more to compile, and 25 steps per execution are not
# faster (52 without XLA, 103 with); with JAX, which always compiles, 89 with 1 step and 94 with 25. On a Xeon
# with AMX: TensorFlow in float32 34, in bfloat16 12, with XLA 35 to 69; JAX in float32 35 to 37, in bfloat16
# 40 to 42. On a Xeon that has AVX-512 BF16 without AMX: TensorFlow in float32 12 to 13, in bfloat16 18 to 26.
# On an EPYC with AVX-512 BF16: TensorFlow in bfloat16 11 to 13 or, in some processes, 26, its
# threads two thirds idle; with 2 intra-op and 1, 2 or 4 inter-op threads 10 to 14, with one of each 18. On an
# NVIDIA H200, seconds an epoch with JAX 0.11: in float32 4.0 with 1 step per execution, 1.6 with 25, 1.7 to
# 1.9 with 125; in bfloat16 2.8 and 1.9.
_TENSORFLOW = keras.backend.backend() == "tensorflow"
SETTINGS = {
    "backend": keras.backend.backend(),
    "jit_compile": not _TENSORFLOW,
    "steps_per_execution": 25 if _on_gpu() else 1,
    "precision": "mixed_bfloat16" if _TENSORFLOW and multiplies_bfloat16() else "float32",
}


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
    x, y = images.astype(np.float32) / 255, labels.astype(np.int32)
    test_x = test_images.astype(np.float32) / 255
    keras.utils.set_random_seed(seed)
    keras.mixed_precision.set_global_policy(SETTINGS["precision"])
    model = _network()

    # The compiled program belongs to the model: warms up on noise, then puts back its first state.
    first = [keras.ops.convert_to_numpy(variable) for variable in model.variables + model.optimizer.variables]
    n = 4 * BATCH_SIZE
    _fit(
        model, np.random.default_rng(0).random((n, 28, 28, 1), np.float32), np.arange(n, dtype=np.int32) % 10
    )
    for variable, value in zip(model.variables + model.optimizer.variables, first, strict=True):
        variable.assign(value)

    seconds = 0.0
    for _ in range(epochs or EPOCHS):
        started = time.perf_counter()
        _fit(model, x, y)
        seconds += time.perf_counter() - started
        predictions = model.predict(test_x, batch_size=EVALUATION_BATCH, verbose=0).argmax(1)
        yield Epoch(seconds, int((predictions == test_labels).sum()) / len(test_labels))


def _network() -> Any:
    """The network and its optimizer, built."""
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(64, 3, activation="relu"),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        optimizer="adam",
        loss="sparse_categorical_crossentropy",  # the recipe's value, without its one-hot labels
        steps_per_execution=SETTINGS["steps_per_execution"],
        jit_compile=SETTINGS["jit_compile"],
    )
    model.optimizer.build(model.trainable_variables)
    return model


def _fit(model: Any, x: np.ndarray, y: np.ndarray) -> None:
    """One pass over the examples in a new order, finished when this returns."""
    model.fit(x, y, batch_size=BATCH_SIZE, epochs=1, shuffle=True, verbose=0)
    keras.ops.convert_to_numpy(model.trainable_variables[-1])  # waits for the last update
