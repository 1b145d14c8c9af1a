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
from jaxdigits.winograd import winograd_convolution

__all__ = ["CNN", "build", "fastest_form", "max_pool", "patches", "space_to_depth"]


def space_to_depth(x: Float[Array, "batch 28 28 1"]) -> Float[Array, "batch 14 14 4"]:
    """The four pixels of each 2x2 block as four channels: a 3x3 convolution then sees 6x6 pixels."""
    x = x.reshape(-1, 14, 2, 14, 2).transpose(0, 1, 3, 2, 4)
    return x.reshape(-1, 14, 14, 4)


def patches(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch rows columns 9*channels"]:
    """Every 3x3 window of each image, flattened: the left side of a convolution's product.

    The images are computed to the end first: XLA would compute what leads to them for each of the nine
    shifts again. A row of an image is taken as one run of numbers, as XLA's loops are faster over long ones.
    """
    batch, height, width, channels = x.shape
    rows, columns = height - 2, width - 2
    x = jax.lax.optimization_barrier(x).reshape(batch, height, width * channels)
    windows = [
        x[:, i : i + rows, j * channels : (j + columns) * channels].reshape(batch, rows, columns, channels)
        for i in range(3)
        for j in range(3)
    ]
    return jnp.concatenate(windows, axis=-1)


@jax.custom_vjp
def patch_convolution(
    x: Float[Array, "batch height width inputs"], kernel: Float[Array, "3 3 inputs outputs"]
) -> Float[Array, "batch rows columns outputs"]:
    """A 3x3 convolution as one matrix product over all windows.

    Its gradient is written out for two reasons. The windows are cut anew rather than kept, which is
    cheaper than the memory. And the kernel's gradient is taken as (outputs x windows) times (windows x
    inputs): the transpose of what differentiation would write, with the smaller matrix to rearrange.
    Both together take a fifth off an update. There is no forward-mode derivative.
    """
    return patches(x) @ kernel.reshape(-1, kernel.shape[-1])


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return patch_convolution(x, kernel), (x, kernel)


def _backward(residuals: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = residuals
    inputs, outputs = kernel.shape[2:]
    windows = patches(x).reshape(-1, 9 * inputs)
    dkernel = (dy.reshape(-1, outputs).T @ windows).T.reshape(kernel.shape)
    dwindows = (dy @ kernel.reshape(-1, outputs).T).reshape(*dy.shape[:3], 3, 3, inputs)
    # Rows as runs of numbers once more: that takes 4% off an update of the preset `standard`.
    batch, rows, columns = dy.shape[:3]
    dx = sum(
        jnp.pad(
            dwindows[:, :, :, i, j].reshape(batch, rows, columns * inputs),
            ((0, 0), (i, 2 - i), (j * inputs, (2 - j) * inputs)),
        )
        for i in range(3)
        for j in range(3)
    )
    return jnp.asarray(dx).reshape(x.shape), dkernel


patch_convolution.defvjp(_forward, _backward)


@jax.custom_vjp
def max_pool(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch rows columns channels"]:
    """The maximum of each 2x2 window; an odd last row or column is left out.

    Written as maxima of slices: the gradient of `lax.reduce_window` is slow on a CPU. So is that of the
    slices, which is why it is written out: a pixel that is its window's maximum gets the gradient, and
    several that are share it evenly, in one pass over the image. That takes 5% (jax 0.12) to 9% (jax 0.10)
    off an update of the preset `fast`. There is no forward-mode derivative.
    """
    return functools.reduce(jnp.maximum, _corners(x))


def _corners(x: Float[Array, "batch height width channels"]) -> list[Array]:
    """The four pixels of every 2x2 window, each as an image of half the size."""
    rows, columns = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    return [x[:, i:rows:2, j:columns:2] for i in (0, 1) for j in (0, 1)]


def _pool_forward(x: Array) -> tuple[Array, tuple[Array, Array]]:
    maximum = max_pool(x)
    return maximum, (x, maximum)


def _pool_backward(residuals: tuple[Array, Array], gradient: Array) -> tuple[Array]:
    x, maximum = residuals
    winners = sum((corner == maximum).astype(x.dtype) for corner in _corners(x))
    share = jax.lax.optimization_barrier(gradient / winners)  # divided once, not for each of four pixels
    return (jnp.where(x == _doubled(maximum, x.shape), _doubled(share, x.shape), 0),)


def _doubled(x: Array, shape: tuple[int, ...]) -> Array:
    """Each pixel as a 2x2 block, in an image of this shape, of which an odd last row or column stays 0."""
    batch, rows, columns, channels = x.shape
    blocks = jnp.broadcast_to(x[:, :, None, :, None], (batch, rows, 2, columns, 2, channels))
    odd = ((0, 0), (0, shape[1] - 2 * rows), (0, shape[2] - 2 * columns), (0, 0))
    return jnp.pad(blocks.reshape(batch, 2 * rows, 2 * columns, channels), odd)


max_pool.defvjp(_pool_forward, _pool_backward)


class Conv(nnx.Module):
    """A 3x3 convolution without padding, in one of three forms, equal but for rounding.

    `direct` is `lax.conv_general_dilated`, for accelerators. `patches` is `patch_convolution`, with which a
    CPU trains faster: inside a loop, XLA runs a direct convolution there twenty times slower (jax-ml/jax
    issue 12868). `winograd` is `winograd_convolution` where there is much to multiply, and else `direct`: of
    a CPU that reads, outside a loop.
    """

    def __init__(self, params: Params, form: Form):
        self.kernel, self.bias = nnx.Param(params["kernel"]), nnx.Param(params["bias"])
        self.form = form

    def __call__(
        self, x: Float[Array, "batch height width inputs"]
    ) -> Float[Array, "batch rows columns outputs"]:
        """The convolution, in the number format of `x`, before the bias."""
        kernel = self.kernel[...].astype(x.dtype)
        if self.form == "patches":
            return patch_convolution(x, kernel)
        if self.form == "winograd" and x.dtype == jnp.float32 and x.shape[2] % 2 == 0 and x.shape[3] >= 16:
            return winograd_convolution(x, kernel)
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )


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
        self.dtype, self.fixed_stem = dtype, fixed_stem

    def __call__(
        self, images: UInt8[Array, "batch 28 28 1"] | Float[Array, "batch 28 28 1"]
    ) -> Float[Array, "batch classes"]:
        """The logits of images with pixels from 0 to 255."""
        x = ((images.astype(jnp.float32) / 255 - MEAN) / STD).astype(self.dtype)
        x = space_to_depth(x)
        for index in range(len(self.convs)):
            x = self.convolve(index, x)
        x = jax.lax.optimization_barrier(x)  # or a CPU pools in the order of the flat form, slowly
        x = nnx.relu(self.hidden(x.reshape(x.shape[0], -1)))
        return self.output(x).astype(jnp.float32)

    def convolve(
        self, index: int, x: Float[Array, "batch height width inputs"]
    ) -> Float[Array, "batch rows columns outputs"]:
        """The convolution of this index, its pooling if it has one, its bias and its ReLU."""
        conv = self.convs[index]
        x = conv(x)
        # The bias and the ReLU commute with the maximum, and cost a quarter behind it.
        x = nnx.relu((max_pool(x) if index == 1 else x) + conv.bias[...].astype(x.dtype))
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


def fastest_form(platform: str) -> Form:
    """The form in which convolutions run best on a device of this platform: `cpu`, `gpu`, `tpu`."""
    return "patches" if platform == "cpu" else "direct"
