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

from jaxdigits import processor
from jaxdigits.blocks import block_convolution, blocks_of_blocks
from jaxdigits.columns import blocks_by_channel, column_convolution, column_dense
from jaxdigits.device import Device, nvidia_capability
from jaxdigits.layers import activated, activated_by_pixel, patch_convolution, space_to_depth
from jaxdigits.network import MEAN, STD, Form, Network, Params, draw, shapes_of
from jaxdigits.winograd import winograd_convolution

__all__ = ["CNN", "build", "fastest"]

_AMPERE = 8.0  # NVIDIA's compute capability from which on GPUs multiply bfloat16 in their tensor cores
_MANY = 512  # products a pixel and tap in the second convolution, for its images to come pixel by pixel
_WITH_BFLOAT16 = (0, 10)  # jax whose XLA has products of bfloat16 made by a CPU's instructions for them
_NARROW = (
    32  # outputs of the second convolution, for products with zeros to cost an update less than they save
)
_ENOUGH = 8  # input channels, for fewer products to be worth the adding that they take


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
      form: how its layers are computed; it does not change the parameters, and all are equal but for
        rounding. `direct` is `lax.conv_general_dilated`, which XLA runs twenty times slower inside a loop on
        a CPU (jax-ml/jax issue 12868), and whose gradients cuDNN is slow at for so few channels. `patches` is
        `patch_convolution`; `winograd` is `winograd_convolution` where there are channels enough, on images
        that come pixel by pixel; `columns` is `column_convolution`, on images that come channel by channel,
        and so is `blocks`, but for the first two layers, which are `block_convolution`.
      dtype: number format of the products; parameters and logits are float32.
      fixed_stem: whether the first convolution is a given one, not to be trained. Then nothing is
        differentiated with respect to its output either, which is a third of an update's work.
    """

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
        if self.form == "columns":
            return blocks_by_channel(pixels)
        if self.form == "blocks":
            return blocks_of_blocks(pixels)
        x = space_to_depth(pixels)
        return x.transpose(1, 2, 0, 3) if self.form == "winograd" else x

    def convolve(
        self, index: int, x: Float[Array, "height width inputs"]
    ) -> Float[Array, "rows columns outputs"]:
        """The convolution of this index, its pooling if it has one, its bias and its ReLU."""
        conv, pooled = self.convs[index], index == 1
        kernel, bias = conv.kernel[...], conv.bias[...]
        if self.form == "blocks" and index < 2:  # as far as the pooling
            x = block_convolution(x, kernel, bias, pooled)
        elif self.form in ("columns", "blocks"):
            x = column_convolution(x, kernel, bias, pooled)
        else:
            y, bias = self._convolution(x, kernel.astype(x.dtype)), bias.astype(x.dtype)
            after = activated_by_pixel if self.form == "winograd" else activated
            x = after(y, bias, pooled)
        return jax.lax.stop_gradient(x) if index == 0 and self.fixed_stem else x

    def _convolution(self, x: Array, kernel: Array) -> Array:
        if self.form == "direct":
            layout = ("NHWC", "HWIO", "NHWC")
            return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=layout)
        if self.form == "winograd" and x.dtype == jnp.float32 and x.shape[-1] >= _ENOUGH:
            return winograd_convolution(x, kernel)
        return patch_convolution(x, kernel, self.form == "patches")

    def hide(self, x: Float[Array, "height width channels"]) -> Float[Array, "batch hidden"]:
        """The hidden layer and its ReLU."""
        if self.form in ("columns", "blocks"):
            x = nnx.relu(column_dense(x, self.hidden.kernel[...]) + self.hidden.bias[...][:, None])
            return x.T
        x = jax.lax.optimization_barrier(x)  # or a CPU pools in the order of the flat form, slowly
        if self.form == "winograd":
            x = jax.lax.optimization_barrier(x.transpose(2, 0, 1, 3))
        return nnx.relu(self.hidden(x.reshape(x.shape[0], -1)))


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


def fastest(
    device: Device,
    channels: tuple[int, ...],
    dtype: str = "auto",
    devices: int = 1,
    *,
    learning: bool = True,
) -> tuple[Form, str]:
    """The form in which a network runs best, and the number format of its products.

    Microseconds an update of `standard` on an NVIDIA H200, jax 0.11: `direct` 221 in float32 and 208 in
    bfloat16, `patches` 172 and 154, `columns` in bfloat16 132; in batches of 512 images `direct` 289 and
    `patches` 249, both in bfloat16. On an Intel Xeon with AMX an update of `fast` takes a fifth less as
    `blocks` than as `columns`, one of `standard` as long, 4% less or 5% more by the run, and an image that is
    only read a quarter to two fifths less. On an AMD EPYC, whose bfloat16 products have but twice the rate of
    those in float32, `columns` take least: 16 to 29% less than `winograd`. On a Xeon that has the EPYC's
    instructions and no AMX they take 11 to 45% more, and float32 is taken. With AVX2 alone all forms but
    `winograd` take 21 to 88% more for an update (benchmarks/results/forms-*.json).

    Args:
      device: the device, or one of several alike.
      channels: as for `build`.
      dtype: the number format, if it is decided; of `auto`, float32, but bfloat16 for one device that
        multiplies it faster.
      devices: how many share a batch. What does not come image by image, XLA does not divide among them.
      learning: whether gradients are taken, or images only read.
    """
    alone = devices == 1
    if dtype == "auto":
        dtype = "bfloat16" if alone and _multiplies_bfloat16(device) else "float32"
    if device.platform not in ("cpu", "gpu"):
        return "direct", dtype
    if alone and dtype == "bfloat16":
        zeros_pay = device.platform == "cpu" and processor.has_matrix_unit()
        return "blocks" if zeros_pay and (channels[1] <= _NARROW or not learning) else "columns", dtype
    pixelwise = alone and device.platform == "cpu" and channels[0] * channels[1] >= _MANY
    return "winograd" if pixelwise else "patches", dtype


def _multiplies_bfloat16(device: Device) -> bool:
    """Whether a device has products in bfloat16, faster than in float32, that XLA makes use of."""
    if device.platform == "cpu":
        return processor.multiplies_bfloat16() and jax.__version_info__ >= _WITH_BFLOAT16
    return (nvidia_capability(device) or 0.0) >= _AMPERE
