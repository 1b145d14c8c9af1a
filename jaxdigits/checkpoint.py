"""Finished models as files: one safetensors file that rebuilds itself.

The weights are the file's tensors; its metadata holds the sizes of the network, the class names, the
data set, the configuration and the figures of the run that made it. Nothing in it is executed, and
everything is checked before it is believed: a file can at worst be refused.
"""

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdigits.errors import DataError
from jaxdigits.network import Form, Network, Params, named, shapes_of
from jaxdigits.storage import atomic_write, read_bounded

__all__ = ["MODEL_FILE", "Model", "load_model", "save_model"]

MODEL_FILE = "model.safetensors"  # its name in a run folder
_FORMAT = 2  # of the metadata; a reader refuses what it does not know, but still reads 1
_LARGEST = 2**30  # bytes: a model file above this is refused unread
_LARGEST_HEADER = 2**20  # bytes: ours have some 3,000; parsed, JSON takes many times its size
_LONGEST_NAME = 100  # characters of a class


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A trained network with what is needed to use it and to know where it comes from.

    Attributes:
      params: its weights, nested dictionaries of float32 NumPy arrays.
      channels: output channels of its convolutions.
      hidden: units of its hidden layer.
      views: how many views of a picture it is asked for, as `TrainConfig.views`.
      temperature: what its logits are divided by, for calibrated probabilities.
      class_names: a name for each class.
      dataset: the data set that it was trained on.
      config: the configuration of its training, as `config.json` has it.
      figures: what was measured of it, as in `summary.json`.
      none_class: whether its network has one more output than it has classes, the last one, which means
        'none of them'.
      threshold: the score (`rejection.score`) below which an answer is refused; None refuses none.
    """

    params: Params
    channels: tuple[int, ...]
    hidden: int
    views: int
    temperature: float
    class_names: tuple[str, ...]
    dataset: str
    config: dict[str, Any]
    figures: dict[str, Any]
    none_class: bool = False
    threshold: float | None = None

    @property
    def outputs(self) -> int:
        """How many outputs its network has."""
        return len(self.class_names) + self.none_class

    @property
    def dtype(self) -> str:
        """The number format of its products: that of its training, if it was bfloat16, else `auto`."""
        return "bfloat16" if self.config.get("dtype") == "bfloat16" else "auto"

    def network(self, form: Form, dtype: str = "float32") -> Network:
        """The network whose weights these are, in one of the forms and number formats of `model.CNN`."""
        from jaxdigits.model import build

        return build(self.channels, self.hidden, self.outputs, form=form, dtype=dtype)


def save_model(path: str | os.PathLike[str], model: Model) -> None:
    """Writes a model, whole or not at all.

    Raises:
      StorageError: the file cannot be written.
    """
    from safetensors.numpy import save

    about = {
        "format": _FORMAT,
        "channels": list(model.channels),
        "hidden": model.hidden,
        "views": model.views,
        "temperature": model.temperature,
        "class_names": list(model.class_names),
        "dataset": model.dataset,
        "config": model.config,
        "figures": model.figures,
        "none_class": model.none_class,
        "threshold": model.threshold,
    }
    tensors = {name: np.ascontiguousarray(array) for name, array in named(model.params).items()}
    content = save(tensors, metadata={"jaxdigits": json.dumps(about)})
    with atomic_write(path) as file:
        file.write(content)


def load_model(path: str | os.PathLike[str]) -> Model:
    """Reads a model from its file, or from the run folder that holds it.

    Raises:
      DataError: there is none, or the file is damaged, foreign, or contradicts itself.
    """
    file = Path(path)
    if file.is_dir():
        file = file / MODEL_FILE
    try:
        content = read_bounded(file, _LARGEST)
    except FileNotFoundError as error:
        raise DataError(f"there is no model {file}; give a {MODEL_FILE} or a run folder with one") from error
    except (OSError, ValueError) as error:  # a path may hold a null character
        raise DataError(f"cannot read the model {path}: {error}") from error
    try:
        tensors, about = _parse(content)
        return _checked(tensors, about)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise DataError(f"{file} is no model of this library, or a damaged one: {reason[:300]}") from error


def _parse(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors and the metadata of a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    length = int.from_bytes(content[:8], "little")
    if length > _LARGEST_HEADER:
        raise ValueError(f"its header has {length} bytes, expected at most {_LARGEST_HEADER}")
    try:
        tensors = load(content)  # checks that header, offsets and length fit together
    except SafetensorError as error:
        raise ValueError(error) from error
    header = json.loads(content[8 : 8 + length])
    return tensors, json.loads(header["__metadata__"]["jaxdigits"])


def _checked(tensors: dict[str, np.ndarray], about: dict[str, Any]) -> Model:
    """The model, if its parts fit together; otherwise raises what `load_model` catches."""
    if about["format"] != _FORMAT:
        raise ValueError(f"its format is {about['format']!r}, this version reads {_FORMAT}")
    channels, hidden, names = tuple(about["channels"]), about["hidden"], tuple(about["class_names"])
    if not all(type(size) is int and 0 < size <= 65_536 for size in (*channels, hidden)):
        raise ValueError("the sizes of its layers are no positive integers")
    views = about["views"]
    if type(views) is not int or views not in (1, 5, 9):
        raise ValueError(f"it asks for {views!r} views of a picture")
    temperature = about["temperature"]
    if type(temperature) is not float or not 0.01 <= temperature <= 100:
        raise ValueError(f"its temperature is {temperature!r}")
    if not 2 <= len(channels) <= 4 or not 2 <= len(names) <= 1000:
        raise ValueError(f"it has {len(channels)} convolutions and {len(names)} classes")
    # They are printed: what steers a terminal has no place in them.
    if not all(isinstance(name, str) and name.isprintable() and len(name) <= _LONGEST_NAME for name in names):
        raise ValueError(f"its class names are no printable strings of up to {_LONGEST_NAME} characters")
    none_class, threshold = _rejection(about)
    shapes = shapes_of(channels, hidden, len(names) + none_class)
    expected = named(shapes)
    if tensors.keys() != expected.keys():
        odd = sorted(tensors.keys() ^ expected.keys())[0]
        raise ValueError(f"the weight {odd} is missing or unknown")
    for name, shape in expected.items():
        found = tensors[name]
        if found.shape != shape.shape or found.dtype != np.float32:
            raise ValueError(
                f"{name} is {found.dtype}{list(found.shape)}, expected float32{list(shape.shape)}"
            )
        if not np.isfinite(found).all():
            raise ValueError(f"{name} has values that are not finite")
    params = jax.tree.unflatten(jax.tree.structure(shapes), [tensors[name] for name in expected])
    config, figures = dict(about["config"]), dict(about["figures"])
    trained = str(about["dataset"]), config, figures
    return Model(params, channels, hidden, views, temperature, names, *trained, none_class, threshold)


def _rejection(about: dict[str, Any]) -> tuple[bool, float | None]:
    """The model's `none_class` and `threshold`."""
    none_class, threshold = about["none_class"], about["threshold"]
    if type(none_class) is not bool:
        raise ValueError(f"its none_class is {none_class!r}")
    if threshold is not None and not (type(threshold) is float and math.isfinite(threshold)):
        raise ValueError(f"its threshold is {threshold!r}")
    return none_class, threshold
