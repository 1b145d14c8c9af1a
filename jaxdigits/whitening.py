"""Filters for the first convolution, computed from training images instead of learned.

The principal components of the images' patches, each scaled to the same variance, are what a first
layer would spend much of its training to find: a network that starts from them is ahead by hundreds of
updates, and one that keeps them as they are need not differentiate its largest layers (Coates and Ng
2012, "Learning feature representations with k-means"; as a frozen layer: Jordan 2024, "94% on CIFAR-10
in 3.29 seconds").
"""

import numpy as np
from jaxtyping import Float, UInt8

from jaxdigits.network import MEAN, STD

__all__ = ["whitened_filters"]

_SAMPLE = 1000  # images: 144,000 patches fix 36 x 36 covariances to a percent
_FLOOR = 0.01  # added to each variance: components that are nearly noise are not blown up
# Where in an image the 36 pixels of each of 144 windows are, 3x3 blocks of 2x2.
_WINDOWS = np.lib.stride_tricks.sliding_window_view(np.arange(784).reshape(28, 28), (6, 6))[::2, ::2]
_WINDOWS = _WINDOWS.reshape(144, 3, 2, 3, 2).transpose(0, 1, 3, 2, 4).reshape(144, 36)


def whitened_filters(
    images: UInt8[np.ndarray, "n 28 28 1"], outputs: int
) -> tuple[Float[np.ndarray, "3 3 4 outputs"], Float[np.ndarray, " outputs"]]:
    """The kernel and the bias of a first convolution that whitens its patches.

    The filters come in pairs of one sign and the other, so that a ReLU loses nothing, in the order of
    the variance that they explain: of n filters the first n/2 see components 1 to n/2. There are 36
    components; filters beyond 72 repeat the first.

    Args:
      images: training images, pixels from 0 to 255. Some one thousand of them are used, evenly spaced.
      outputs: how many filters.

    Returns:
      The kernel, for windows of 3x3 blocks of 2x2 pixels, and the bias.
    """
    chosen = np.asarray(images[:: max(1, len(images) // _SAMPLE)]).reshape(-1, 784)
    pixels = chosen.astype(np.float32)
    # A window's pixels are some of the image's, and so are its moments: no window need be cut out, nor any
    # pixel be normalised.
    mean = pixels.mean(axis=0, dtype=np.float64)[_WINDOWS].mean(axis=0)
    products = (pixels.T @ pixels / len(pixels))[_WINDOWS[:, :, None], _WINDOWS[:, None, :]]
    covariance = (products.mean(axis=0, dtype=np.float64) - np.outer(mean, mean)) / (255 * STD) ** 2
    mean = (mean / 255 - MEAN) / STD
    variances, components = np.linalg.eigh(covariance)
    filters = (components / np.sqrt(np.maximum(variances, 0) + _FLOOR))[:, ::-1]
    filters = filters[:, np.arange((outputs + 1) // 2) % 36]
    filters = np.concatenate([filters, -filters], axis=1)[:, :outputs].astype(np.float32)
    return filters.reshape(3, 3, 4, outputs), (-mean @ filters).astype(np.float32)
