"""This library's network in Keras, for prediction alone, with weights drawn at random.

The layers are those of `jaxdigits.model`; the first, of 2x2 blocks as channels and 3x3 blocks, is written as
what it equals, 6x6 pixels with stride 2. Keras runs on the backend that KERAS_BACKEND names when this module
is imported.
"""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

keras: Any = importlib.import_module(
    "keras"
)  # not a dependency of this library, and unknown to its type checks

__all__ = ["SETTINGS", "predictor"]

MEAN, DEVIATION = 0.1307, 0.3081  # of the training pixels, scaled to 0 to 1

# Microseconds an image, and milliseconds of one picture alone, with channels 16, 64, 64 and hidden 128, on
# two cores (AMD EPYC with AVX-512), Keras 3.15 with TensorFlow 2.21, short runs on a shared machine:
# predict_on_batch in batches of 1000 24 and 0.66, of 256 24 and 0.67, with XLA 42 to 54 and 0.7 to 1.0; a
# tf.function of one's own 22 to 44 and 0.6 to 0.8, with XLA 29 to 30 and 0.5; predict 36. On a Xeon with AMX,
# with channels 32, 64, 128 and hidden 256, predict_on_batch: in float32, batches of 1000, 54 and 1.6, with
# XLA 55 and 1.2; in bfloat16 19 to 24 and 1.9, in batches of 256 27 and 2.0.
_BEST: dict[str, Any] = {"batch_size": 1000, "program": "predict_on_batch", "jit_compile": False}
SETTINGS: dict[str, dict[str, Any]] = {
    "float32": _BEST | {"policy": "float32"},
    "bfloat16": _BEST | {"policy": "mixed_bfloat16"},
}


def predictor(
    channels: tuple[int, ...], hidden: int, classes: int, dtype: str = "float32"
) -> Callable[[UInt8[np.ndarray, "n 28 28 1"]], Float[np.ndarray, "n classes"]]:
    """The network as a function of any number of images to probabilities; `dtype` is that of its products."""
    settings = SETTINGS[dtype]
    layers = keras.layers
    keras.utils.set_random_seed(0)
    keras.mixed_precision.set_global_policy(settings["policy"])
    stack = [layers.Input((28, 28, 1)), layers.Conv2D(channels[0], 6, strides=2, activation="relu")]
    for index, outputs in enumerate(channels[1:]):
        stack += [layers.Conv2D(outputs, 3), *[layers.MaxPooling2D(2)] * (index == 0), layers.ReLU()]
    stack += [layers.Flatten(), layers.Dense(hidden, activation="relu")]
    model = keras.Sequential([*stack, layers.Dense(classes, activation="softmax")])
    model.compile(jit_compile=settings["jit_compile"])
    batch_size = settings["batch_size"]

    def predict(images: np.ndarray) -> np.ndarray:
        batches = (images[start : start + batch_size] for start in range(0, len(images), batch_size))
        pixels = ((batch.astype(np.float32) / 255 - MEAN) / DEVIATION for batch in batches)
        return np.concatenate([model.predict_on_batch(batch) for batch in pixels])

    return predict
