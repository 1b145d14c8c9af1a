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

from jaxdigits.layers import activated, activated_by_pixel, patch_convolution, space_to_depth
from jaxdigits.network import MEAN, STD, Form, Network, Params, draw, shapes_of
from jaxdigits.winograd import winograd_convolution

__all__ = ["CNN", "build", "fastest_form"]

_MANY = 512  # products a pixel and tap in the second convolution, for its images to come pixel by pixel
_ENOUGH = 8  # input channels, for fewer products to be worth the adding that they take


class Conv(nnx.Module):
    """A 3x3 convolution without padding, in one of three forms, equal but for rounding.

    `direct` is `lax.conv_general_dilated`, for accelerators. The others are for a CPU, where XLA runs a
    direct convolution twenty times slower inside a loop (jax-ml/jax issue 12868): `patches` is
    `patch_convolution`; `winograd` is `winograd_convolution` where there are channels enough, on images that
    come pixel by pixel.
    """

    def __init__(self, params: Params, form: Form):
        self.kernel, self.bias = nnx.Param(params["kernel"]), nnx.Param(params["bias"])
        self.form = form

    def __call__(
        self, x: Float[Array, "*batch height width inputs"]
    ) -> Float[Array, "*batch rows columns outputs"]:
        """The convolution, in the number format of `x`, before the bias."""
        kernel = self.kernel[...].astype(x.dtype)
        if self.form == "direct":
            layout = ("NHWC", "HWIO", "NHWC")
            return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=layout)
        if self.form == "winograd" and x.dtype == jnp.float32 and x.shape[-1] >= _ENOUGH:
            return winograd_convolution(x, kernel)
        return patch_convolution(x, kernel, self.form == "patches")


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
      form: how convolutions are computed; it does not change the parameters.
      dtype: number format of the activations; parameters and logits are float32.
      fixed_stem: whether the first convolution is a given one, not to be trained. Then nothing is
        differentiated with respect to its output either, which is a third of an update's work.
    """

    def __init__(
        self, params: Params, *, form: Form = "direct", dtype: str = "float32", fixed_stem: bool = False
    ):
        self.convs = nnx.List([Conv(params["convs"][index], form) for index in range(len(params["convs"]))])
        self.hidden, self.output = Dense(params["hidden"]), Dense(params["output"])
        self.form, self.dtype, self.fixed_stem = form, dtype, fixed_stem

    def __call__(
        self, images: UInt8[Array, "batch 28 28 1"] | Float[Array, "batch 28 28 1"]
    ) -> Float[Array, "batch classes"]:
        """The logits of images with pixels from 0 to 255."""
        x = ((images.astype(jnp.float32) / 255 - MEAN) / STD).astype(self.dtype)
        x = space_to_depth(x)
        if self.form == "winograd":
            x = x.transpose(1, 2, 0, 3)
        for index in range(len(self.convs)):
            x = self.convolve(index, x)
        x = jax.lax.optimization_barrier(x)  # or a CPU pools in the order of the flat form, slowly
        if self.form == "winograd":
            x = jax.lax.optimization_barrier(x.transpose(2, 0, 1, 3))
        x = nnx.relu(self.hidden(x.reshape(x.shape[0], -1)))
        return self.output(x).astype(jnp.float32)

    def convolve(
        self, index: int, x: Float[Array, "*batch height width inputs"]
    ) -> Float[Array, "*batch rows columns outputs"]:
        """The convolution of this index, its pooling if it has one, its bias and its ReLU.

        In the form `winograd` images come pixel by pixel, [height, width, batch, inputs], and leave so.
        """
        conv = self.convs[index]
        x, bias, pooled = conv(x), conv.bias[...].astype(x.dtype), index == 1
        x = activated_by_pixel(x, bias, pooled) if self.form == "winograd" else activated(x, bias, pooled)
        return jax.lax.stop_gradient(x) if index == 0 and self.fixed_stem else x


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

    return Network(functools.partial(draw, shapes), apply, shapes)


def fastest_form(platform: str, channels: tuple[int, ...], devices: int = 1) -> Form:
    """The form in which a network runs best.

    Args:
      platform: of the devices: `cpu`, `gpu`, `tpu`.
      channels: as for `build`.
      devices: how many share a batch. What comes pixel by pixel, XLA does not divide among them.
    """
    if platform != "cpu":
        return "direct"
    return "winograd" if devices == 1 and channels[0] * channels[1] >= _MANY else "patches"
