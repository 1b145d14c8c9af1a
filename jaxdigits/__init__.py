"""jaxdigits: trains a handwritten-digit recogniser with JAX and Flax, and reads digits with it.

    from jaxdigits import predict, train

    predict("seven.png").digit
    result = train("fast", seed=1)

Names are imported when they are first used: `import jaxdigits` itself costs next to nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxdigits import dataset
    from jaxdigits.config import TrainConfig
    from jaxdigits.ensemble import Ensemble
    from jaxdigits.errors import (
        DataError,
        DeviceError,
        DivergedError,
        JaxdigitsError,
        StorageError,
        UsageError,
    )
    from jaxdigits.many import TrainedMany, train_many
    from jaxdigits.predictions import Prediction, Predictions
    from jaxdigits.presets import PRESETS
    from jaxdigits.reading import Reading, read
    from jaxdigits.recognizer import Recognizer, load, predict, predict_iter
    from jaxdigits.training import TrainResult, train

__version__ = "0.1.0"

_HOMES = {
    "PRESETS": "presets",
    "TrainConfig": "config",
    "DataError": "errors",
    "DeviceError": "errors",
    "DivergedError": "errors",
    "JaxdigitsError": "errors",
    "StorageError": "errors",
    "UsageError": "errors",
    "Ensemble": "ensemble",
    "TrainedMany": "many",
    "train_many": "many",
    "Prediction": "predictions",
    "Predictions": "predictions",
    "Reading": "reading",
    "read": "reading",
    "Recognizer": "recognizer",
    "load": "recognizer",
    "predict": "recognizer",
    "predict_iter": "recognizer",
    "TrainResult": "training",
    "train": "training",
}

__all__ = [
    "PRESETS",
    "DataError",
    "DeviceError",
    "DivergedError",
    "Ensemble",
    "JaxdigitsError",
    "Prediction",
    "Predictions",
    "Reading",
    "Recognizer",
    "StorageError",
    "TrainConfig",
    "TrainResult",
    "TrainedMany",
    "UsageError",
    "dataset",
    "load",
    "predict",
    "predict_iter",
    "read",
    "train",
    "train_many",
]


def __getattr__(name: str) -> Any:
    if name == "dataset":
        return importlib.import_module("jaxdigits.dataset")
    if name not in _HOMES:
        raise AttributeError(f"module 'jaxdigits' has no attribute {name!r}")
    return getattr(importlib.import_module(f"jaxdigits.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
