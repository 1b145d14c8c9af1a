"""The forms in which the network is computed: the layers of each, and which of them is the fastest where.

They have the same parameters, and give the same but for rounding. They differ in how images lie in memory
from layer to layer, and in what becomes of a convolution, both of which decide how fast a device is at it.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jaxtyping import Array, Float

from jaxdigits import processor
from jaxdigits.blocks import block_convolution, blocks_of_blocks
from jaxdigits.columns import blocks_by_channel, column_convolution, column_dense
from jaxdigits.device import Device, nvidia_capability
from jaxdigits.layers import activated, activated_by_pixel, patch_convolution, space_to_depth
from jaxdigits.network import Form
from jaxdigits.rowwise import blocks_by_row, pixel_convolution, pixel_dense, row_convolution
from jaxdigits.winograd import winograd_convolution, worth_it

__all__ = ["FORMS", "Layers", "fastest"]

_AMPERE = 8.0  # NVIDIA's compute capability from which on GPUs multiply bfloat16 in their tensor cores
_MANY = 512  # products a pixel and tap in the second convolution, for fewer of them to be worth their adding
_WITH_BFLOAT16 = (0, 10)  # jax whose XLA has products of bfloat16 made by a CPU's instructions for them
_WITH_ROWS = (0, 12)  # jax whose products of rows keep all cores busy
_NARROW = 32  # outputs of the second convolution, for an update to be worth products with zeros
_POOLED = 1  # the convolution behind which is the maximum of each 2x2 window


class Layers(NamedTuple):
    """The network's layers in one form. How an image lies is the form's own: [height, width, channels] here.

    Attributes:
      arrange: pixels [batch, 28, 28, 1] to [14, 14, 4], their 2x2 blocks as channels.
      convolve: the index of a convolution, images, its kernel and its bias to images; with its ReLU, and the
        pooling of the second.
      dense: images, a kernel and a bias to [batch, outputs].
    """

    arrange: Callable[[Array], Array]
    convolve: Callable[[int, Array, Array, Array], Array]
    dense: Callable[[Array, Array, Array], Array]


def _by_image(
    convolution: Callable[[Array, Array], Array],
) -> Callable[[int, Array, Array, Array], Array]:
    def convolve(index: int, x: Array, kernel: Array, bias: Array) -> Array:
        return activated(convolution(x, kernel.astype(x.dtype)), bias.astype(x.dtype), index == _POOLED)

    return convolve


def _direct(x: Array, kernel: Array) -> Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=layout)


def _dense(x: Float[Array, "batch height width channels"], kernel: Array, bias: Array) -> Array:
    x = jax.lax.optimization_barrier(x)  # or a CPU pools in the order of the flat form, slowly
    return x.reshape(len(x), -1) @ kernel.astype(x.dtype) + bias.astype(x.dtype)


def _windows(x: Float[Array, "batch height width inputs"], kernel: Array) -> Array:
    return patch_convolution(x, kernel, True)


def _of_pixels(x: Float[Array, "height width batch inputs"], kernel: Array) -> Array:
    if worth_it(x.dtype, x.shape[-1]):
        return winograd_convolution(x, kernel)
    return patch_convolution(x, kernel, False)


def _by_pixel(index: int, x: Array, kernel: Array, bias: Array) -> Array:
    y = _of_pixels(x, kernel.astype(x.dtype))
    return activated_by_pixel(y, bias.astype(x.dtype), index == _POOLED)


def _by_row(index: int, x: Array, kernel: Array, bias: Array) -> Array:
    if index > _POOLED:
        return pixel_convolution(x, kernel, bias)
    return row_convolution(x, kernel, bias, index == _POOLED)


def _by_channel(index: int, x: Array, kernel: Array, bias: Array) -> Array:
    return column_convolution(x, kernel, bias, index == _POOLED)


def _by_block(index: int, x: Array, kernel: Array, bias: Array) -> Array:
    if index > _POOLED:
        return column_convolution(x, kernel, bias, False)
    return block_convolution(x, kernel, bias, index == _POOLED)


def _batch_last(dense: Callable[[Array, Array], Array]) -> Callable[[Array, Array, Array], Array]:
    return lambda x, kernel, bias: (dense(x, kernel) + bias[:, None]).T


FORMS: dict[Form, Layers] = {
    # XLA's own convolutions, which it runs twenty times slower inside a loop on a CPU (jax-ml/jax issue
    # 12868), and at whose gradients cuDNN is slow for so few channels.
    "direct": Layers(space_to_depth, _by_image(_direct), _dense),
    "patches": Layers(space_to_depth, _by_image(_windows), _dense),
    "winograd": Layers(
        lambda pixels: space_to_depth(pixels).transpose(1, 2, 0, 3),
        _by_pixel,
        lambda x, kernel, bias: _dense(jax.lax.optimization_barrier(x).transpose(2, 0, 1, 3), kernel, bias),
    ),
    "rowwise": Layers(blocks_by_row, _by_row, _batch_last(pixel_dense)),
    "columns": Layers(blocks_by_channel, _by_channel, _batch_last(column_dense)),
    "blocks": Layers(blocks_of_blocks, _by_block, _batch_last(column_dense)),
}


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
    instructions and no AMX they take 11 to 45% more, and float32 is taken. With AVX2 alone an update takes
    14% more as `winograd` than as `rowwise`, and 44 to 88% more in the other forms; before jax 0.12, in
    trials, `rowwise` took between a sixth less and a tenth more by the run, and `winograd` is taken. On the
    Xeon without AMX `rowwise` was not measured (benchmarks/results/forms-*.json).

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
    if alone and device.platform == "cpu" and channels[0] * channels[1] >= _MANY:
        return "rowwise" if jax.__version_info__ >= _WITH_ROWS else "winograd", dtype
    return "patches", dtype


def _multiplies_bfloat16(device: Device) -> bool:
    """Whether a device has products in bfloat16, faster than in float32, that XLA makes use of."""
    if device.platform == "cpu":
        return processor.multiplies_bfloat16() and jax.__version_info__ >= _WITH_BFLOAT16
    return (nvidia_capability(device) or 0.0) >= _AMPERE
