"""The network: a small convolutional classifier of 28x28 grey images, in Flax NNX.

    28x28x1  2x2 blocks to channels               14x14x4
             conv 3x3, ReLU                        12x12xC1
             conv 3x3, max-pool 2, ReLU            5x5xC2
             conv 3x3, ReLU                        3x3xC3
             dense, ReLU                           hidden
             dense                                 classes

The plan is LeNet's (LeCun et al. 1998, "Gradient-based learning applied to document recognition"),
with a first convolution of 6x6 pixels and stride 2 in place of the first pooling (Springenberg et
al. 2015, "Striving for simplicity"). Its parameters are made elsewhere: their shapes and first values in
`network`, filters for the first convolution in `whitening`.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, UInt8

from jaxdigits.network import MEAN, STD, Form, Network, Params, draw, shapes_of
from jaxdigits.network_forms import FORMS

__all__ = ["CNN", "build"]


class Conv(nnx.Module):
    """The filters and biases of a 3x3 convolution without padding."""

    def __init__(self, params: Params):
        self.kernel, self.bias = nnx.Param(params["kernel"]), nnx.Param(params["bias"])


class Dense(nnx.Module):
    """A dense layer, in the number format of its input."""

    def __init__(self, params: Params):
        self.kernel, self.bias = nnx.Param(params["kernel"]), nnx.Param(params["bias"])

    def __call__(self, x: Float[Array, "batch inputs"]) -> Float[Array, "batch outputs"]:
        """The affine map of each row."""
        return x @ self.kernel[...].astype(x.dtype) + self.bias[...].astype(x.dtype)


class CNN(nnx.Module):
    """Images to logits. See the module's description for the layers.

    Args:
      params: its parameters, whose shapes are its sizes: see `network`.
      form: how its layers are computed, one of `network_forms.FORMS`; it does not change the parameters, and
        all are equal but for rounding.
      dtype: number format of the products; parameters and logits are float32.
      fixed_stem: whether the first convolution is a given one, not to be trained. Then nothing is
        differentiated with respect to its output either, which is a third of an update's work.
    """

    form: Form

    def __init__(
        self, params: Params, *, form: Form = "direct", dtype: str = "float32", fixed_stem: bool = False
    ):
        self.convs = nnx.List([Conv(params["convs"][index]) for index in range(len(params["convs"]))])
        self.hidden, self.output = Dense(params["hidden"]), Dense(params["output"])
        self.form, self.dtype, self.fixed_stem = form, dtype, fixed_stem

    def __call__(
        self, images: UInt8[Array, "batch 28 28 1"] | Float[Array, "batch 28 28 1"]
    ) -> Float[Array, "batch classes"]:
        """The logits of images with pixels from 0 to 255."""
        x = self.arrange(((images.astype(jnp.float32) / 255 - MEAN) / STD).astype(self.dtype))
        for index in range(len(self.convs)):
            x = self.convolve(index, x)
        return self.output(self.hide(x)).astype(jnp.float32)

    # The axes of an image differ by form: [height, width, channels] stands for all of them below.

    def arrange(self, pixels: Float[Array, "batch 28 28 1"]) -> Float[Array, "14 14 4"]:
        """Images as the first convolution takes them: 2x2 blocks to channels."""
        return FORMS[self.form].arrange(pixels)

    def convolve(
        self, index: int, x: Float[Array, "height width inputs"]
    ) -> Float[Array, "rows columns outputs"]:
        """The convolution of this index, its pooling if it has one, its bias and its ReLU."""
        conv = self.convs[index]
        x = FORMS[self.form].convolve(index, x, conv.kernel[...], conv.bias[...])
        return jax.lax.stop_gradient(x) if index == 0 and self.fixed_stem else x

    def hide(self, x: Float[Array, "height width channels"]) -> Float[Array, "batch hidden"]:
        """The hidden layer and its ReLU."""
        return nnx.relu(FORMS[self.form].dense(x, self.hidden.kernel[...], self.hidden.bias[...]))


def build(
    channels: tuple[int, ...],
    hidden: int,
    classes: int,
    *,
    form: Form,
    dtype: str = "float32",
    fixed_stem: bool = False,
) -> Network:
    """The network of these sizes as pure functions.

    Args:
      channels: output channels of the convolutions, at least two.
      hidden: units of the hidden dense layer.
      classes: how many classes there are.
      form: as for `CNN`.
      dtype: as for `CNN`.
      fixed_stem: as for `CNN`.
    """
    shapes = shapes_of(channels, hidden, classes)

    def apply(params: Params, images: jax.Array) -> jax.Array:
        return CNN(params, form=form, dtype=dtype, fixed_stem=fixed_stem)(images)

    return Network(functools.partial(draw, shapes), apply, shapes, dtype)
