"""What the network is to everything but itself: its parameters, and two pure functions.

Here are the shapes of the parameters and their first values; what is computed with them is in `model`. They
are apart since Flax takes a tenth of a short training to import: who has compiled programs already (`kept`)
needs parameters, but no Flax.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

__all__ = ["MEAN", "STD", "Form", "Network", "Params", "draw", "named", "shapes_of"]

# The mean and the standard deviation of MNIST's training pixels, as a share of 255.
MEAN, STD = 0.1307, 0.3081

Form = Literal["patches", "direct", "winograd", "rowwise", "columns", "blocks"]
Params = dict[str, Any]  # nested dictionaries of float32 arrays: convs.0.kernel, ..., output.bias


class Network(NamedTuple):
    """A CNN as pure functions, as compiled code wants it.

    Attributes:
      init: a seed, and the kernel and the bias of the first convolution or None, to fresh parameters.
      apply: parameters and images [batch, 28, 28, 1], with pixels from 0 to 255, to float32 logits
        [batch, classes].
      shapes: the parameters' shapes and dtypes, in the same tree.
      dtype: the number format of its products.
    """

    init: Callable[..., Params]
    apply: Callable[[Params, jax.Array], jax.Array]
    shapes: Params
    dtype: str


def shapes_of(channels: tuple[int, ...], hidden: int, classes: int) -> Params:
    """The shapes and dtypes of the parameters of a network of these sizes, which are those of `model.CNN`."""

    def layer(*shape: int) -> dict[str, jax.ShapeDtypeStruct]:
        sizes = {"kernel": shape, "bias": shape[-1:]}
        return {name: jax.ShapeDtypeStruct(size, np.float32) for name, size in sizes.items()}

    inputs = (4, *channels)  # of each convolution: the first one sees 2x2 blocks of pixels
    side = 5 - 2 * (len(channels) - 2)
    return {
        "convs": {index: layer(3, 3, inputs[index], outputs) for index, outputs in enumerate(channels)},
        "hidden": layer(side * side * channels[-1], hidden),
        "output": layer(hidden, classes),
    }


def named(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their dotted paths, in the tree's order."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def draw(shapes: Params, seed: int, stem: tuple[np.ndarray, np.ndarray] | None = None) -> Params:
    """Fresh parameters of these shapes.

    The kernels are normal, scaled by their inputs (He et al. 2015, "Delving deep into rectifiers"), those of
    the convolutions behind the first by a quarter of it; the output layer and the biases are 0. NumPy draws
    them: drawn in a compiled program, they cost a cold start 1.8 s on two CPU cores.

    Args:
      shapes: as `shapes_of` gives them.
      seed: decides the kernels.
      stem: the kernel and the bias of the first convolution, in place of drawn ones.
    """
    random = np.random.default_rng(seed)

    def layer(like: dict[str, Any], gain: float) -> dict[str, np.ndarray]:
        shape = like["kernel"].shape
        scale = gain * math.sqrt(2 / math.prod(shape[:-1]))
        kernel = random.standard_normal(shape, np.float32) * scale if gain else np.zeros(shape)
        return {"kernel": kernel.astype(np.float32), "bias": np.zeros(shape[-1:], np.float32)}

    params = {
        "convs": {index: layer(like, 0.25 if index else 1.0) for index, like in shapes["convs"].items()},
        "hidden": layer(shapes["hidden"], 1.0),
        "output": layer(shapes["output"], 0.0),
    }
    if stem is not None:
        params["convs"][0] = dict(zip(("kernel", "bias"), stem, strict=True))
    return params
