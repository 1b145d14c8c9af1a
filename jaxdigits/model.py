"""The network: a small convolutional classifier of 28x28 grey images, in Flax NNX.

    28x28x1  conv 5x5, stride 2, ReLU             12x12xC1
             conv 3x3, max-pool 2, ReLU            5x5xC2
             conv 3x3, ReLU                        3x3xC3
             dense, ReLU                           hidden
             dense                                 classes

The plan is LeNet's (LeCun et al. 1998, "Gradient-based learning applied to document recognition"),
with the stem's stride in place of the first pooling (Springenberg et al. 2015, "Striving for
simplicity"). What is random about training (augmentation, batches) is left to `augment` and `step`.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, UInt8

__all__ = ["CNN", "Form", "Network", "Params", "build", "fastest_form", "max_pool", "patches"]

# The mean and the standard deviation of MNIST's training pixels, as a share of 255.
MEAN, STD = 0.1307, 0.3081

Form = Literal["patches", "direct"]
Params = dict[str, Any]  # nested dictionaries of float32 arrays, as `nnx.to_pure_dict` makes them


def patches(
    x: Float[Array, "batch height width channels"], size: int, stride: int
) -> Float[Array, "batch rows columns size*size*channels"]:
    """Every `size` x `size` window of each image, flattened: the left side of a convolution's product."""
    rows, columns = ((extent - size) // stride + 1 for extent in x.shape[1:3])
    windows = [
        x[:, i : i + stride * (rows - 1) + 1 : stride, j : j + stride * (columns - 1) + 1 : stride]
        for i in range(size)
        for j in range(size)
    ]
    return jnp.concatenate(windows, axis=-1)


def max_pool(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch rows columns channels"]:
    """The maximum of each 2x2 window; an odd last row or column is left out.

    Written as three maxima of slices: the gradient of `lax.reduce_window` is slow on a CPU.
    """
    rows, columns = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    x = jnp.maximum(x[:, 0:rows:2], x[:, 1:rows:2])
    return jnp.maximum(x[:, :, 0:columns:2], x[:, :, 1:columns:2])


class Conv(nnx.Module):
    """A square convolution without padding, in one of two forms that give the same numbers.

    `direct` is `lax.conv_general_dilated`, for accelerators. `patches` is one matrix product over
    all windows: on a CPU it is the faster one, above all inside a loop, where XLA runs a direct
    convolution twenty times slower (jax-ml/jax issue 12868).
    """

    def __init__(self, inputs: int, outputs: int, *, size: int, stride: int, form: Form, rngs: nnx.Rngs):
        initialize = nnx.initializers.he_normal()
        self.kernel = nnx.Param(initialize(rngs.params(), (size, size, inputs, outputs), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(outputs, jnp.float32))
        self.size, self.stride, self.form = size, stride, form

    def __call__(
        self, x: Float[Array, "batch height width inputs"]
    ) -> Float[Array, "batch rows columns outputs"]:
        """The convolution, in the number format of `x`, before the bias."""
        kernel = self.kernel[...].astype(x.dtype)
        if self.form == "patches":
            return patches(x, self.size, self.stride) @ kernel.reshape(-1, kernel.shape[-1])
        return jax.lax.conv_general_dilated(
            x, kernel, (self.stride, self.stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )


class Dense(nnx.Module):
    """A dense layer, in the number format of its input."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        initialize = nnx.initializers.he_normal()
        self.kernel = nnx.Param(initialize(rngs.params(), (inputs, outputs), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(outputs, jnp.float32))

    def __call__(self, x: Float[Array, "batch inputs"]) -> Float[Array, "batch outputs"]:
        """The affine map of each row."""
        return x @ self.kernel[...].astype(x.dtype) + self.bias[...].astype(x.dtype)


class CNN(nnx.Module):
    """Images to logits. See the module's description for the layers.

    Args:
      channels: output channels of the convolutions, at least two.
      hidden: units of the hidden dense layer.
      classes: how many classes there are.
      form: how convolutions are computed; it does not change the weights.
      dtype: number format of the activations; weights and logits are float32.
      rngs: the source of the initial weights (He normal; biases 0).
    """

    def __init__(
        self,
        channels: tuple[int, ...],
        hidden: int,
        classes: int,
        *,
        form: Form = "direct",
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        stem, *rest = channels
        self.stem = Conv(1, stem, size=5, stride=2, form=form, rngs=rngs)
        pairs = zip(channels, rest, strict=False)
        self.convs = nnx.List([Conv(a, b, size=3, stride=1, form=form, rngs=rngs) for a, b in pairs])
        side = 5 - 2 * (len(rest) - 1)
        self.hidden = Dense(side * side * channels[-1], hidden, rngs=rngs)
        self.output = Dense(hidden, classes, rngs=rngs)
        self.dtype = dtype

    def __call__(
        self, images: UInt8[Array, "batch 28 28 1"] | Float[Array, "batch 28 28 1"]
    ) -> Float[Array, "batch classes"]:
        """The logits of images with pixels from 0 to 255."""
        x = ((images.astype(jnp.float32) / 255 - MEAN) / STD).astype(self.dtype)
        x = nnx.relu(_with_bias(self.stem(x), self.stem))
        for index, conv in enumerate(self.convs):
            x = conv(x)
            # The bias and the ReLU commute with the maximum, and cost a quarter behind it.
            x = nnx.relu(_with_bias(max_pool(x) if index == 0 else x, conv))
        x = nnx.relu(self.hidden(x.reshape(x.shape[0], -1)))
        return self.output(x).astype(jnp.float32)


def _with_bias(x: Array, conv: Conv) -> Array:
    return x + conv.bias[...].astype(x.dtype)


class Network(NamedTuple):
    """A CNN split into two pure functions, as compiled code wants it.

    Attributes:
      init: a random key to fresh parameters.
      apply: parameters and images [batch, 28, 28, 1], with pixels from 0 to 255, to float32 logits
        [batch, classes].
    """

    init: Callable[[jax.Array], Params]
    apply: Callable[[Params, jax.Array], jax.Array]


def build(
    channels: tuple[int, ...], hidden: int, classes: int, *, form: Form, dtype: str = "float32"
) -> Network:
    """The network of these sizes as two pure functions. Arguments as for `CNN`."""

    def make(key: jax.Array) -> CNN:
        return CNN(channels, hidden, classes, form=form, dtype=dtype, rngs=nnx.Rngs(params=key))

    graph, _ = nnx.split(nnx.eval_shape(make, jax.random.key(0)))

    def init(key: jax.Array) -> Params:
        return nnx.to_pure_dict(nnx.state(make(key), nnx.Param))

    def apply(params: Params, images: jax.Array) -> jax.Array:
        return nnx.merge(graph, params)(images)

    return Network(init, apply)


def fastest_form(platform: str) -> Form:
    """The form in which convolutions run best on a device of this platform: `cpu`, `gpu`, `tpu`."""
    return "patches" if platform == "cpu" else "direct"
