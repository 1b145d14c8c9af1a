"""Floating-point operations of a training step: by the definition of its layers, and by its program."""

import math
from typing import Any

import jax
from jax.interpreters.partial_eval import dce_jaxpr

from jaxdigits.config import TrainConfig
from jaxdigits.step import Data, TrainState, Update

__all__ = ["executed", "operations", "training_operations"]


def operations(config: TrainConfig, classes: int = 10) -> dict[str, int]:
    """Floating-point operations of the products of one image, by layer: forward only."""
    side, inputs, layers = 14, 4, {}
    for index, outputs in enumerate(config.channels):
        side -= 2
        layers[f"convolution {index + 1}"] = 2 * side * side * 9 * inputs * outputs
        side = side // 2 if index == 1 else side
        inputs = outputs
    layers["hidden"] = 2 * side * side * inputs * config.hidden
    layers["output"] = 2 * config.hidden * classes
    return layers


def training_operations(config: TrainConfig) -> int:
    """Those of one image in an update.

    The first layer has no gradient towards its input; if it is kept as it is, it has none at all, and the
    second has none towards its input either.
    """
    layers = operations(config)
    first, second = layers["convolution 1"], layers["convolution 2"]
    return 3 * sum(layers.values()) - (2 * first + second if config.stem == "whitened" else first)


def executed(step: Update, state: TrainState, data: Data) -> int:
    """Floating-point operations of the products of a step's program, of those whose result is used."""
    program = jax.make_jaxpr(step)(state, data).jaxpr
    return _products(dce_jaxpr(program, [True] * len(program.outvars))[0])


def _products(program: Any) -> int:
    """Those in a Jaxpr, however deep they lie; of a convolution, of all its taps, on padding too."""
    total = 0
    for equation in program.eqns:
        if equation.primitive.name == "dot_general":
            ((contracted, _), _), left = equation.params["dimension_numbers"], equation.invars[0].aval
            sums = math.prod(left.shape[axis] for axis in contracted)
            total += 2 * sums * math.prod(equation.outvars[0].aval.shape)
        if equation.primitive.name == "conv_general_dilated":
            kernel, numbers = equation.invars[1].aval, equation.params["dimension_numbers"]
            taps = math.prod(kernel.shape) // kernel.shape[numbers.rhs_spec[0]]
            total += 2 * taps * math.prod(equation.outvars[0].aval.shape)
        inner = jax.tree.leaves(tuple(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns"))
        times = equation.params.get("length", 1)  # of a scan
        total += times * sum(_products(value) for value in inner if hasattr(value, "eqns"))
    return total
