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

_IMAGES = 2000  # images that are looked at, at most
_PATCHES = 16_000  # windows of them: they fix 36 x 36 covariances to a percent
_BLOCK = 200  # of them multiplied at once: more, and OpenBLAS wakes threads, which then wait for work, busily
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
      images: training images, pixels from 0 to 255. Of many, some two thousand are used, evenly spaced, and
        of each as many windows, in turn, as make some sixteen thousand in all.
      outputs: how many filters.

    Returns:
      The kernel, for windows of 3x3 blocks of 2x2 pixels, and the bias.
    """
    chosen = np.asarray(images[:: max(1, len(images) // _IMAGES)]).reshape(-1, 784)
    numbers = np.arange(len(chosen))[:, None]
    step = max(1, len(chosen) * len(_WINDOWS) // _PATCHES)
    windows = _WINDOWS[numbers % step + np.arange(len(_WINDOWS) // step) * step]
    patches = chosen[numbers[..., None], windows].reshape(-1, 36).astype(np.float32)
    blocks = (patches[start : start + _BLOCK] for start in range(0, len(patches), _BLOCK))
    products = sum((block.T @ block).astype(np.float64) for block in blocks) / len(patches)
    mean = patches.mean(axis=0, dtype=np.float64)
    covariance = (products - np.outer(mean, mean)) / (255 * STD) ** 2
    mean = (mean / 255 - MEAN) / STD
    variances, components = np.linalg.eigh(covariance)
    filters = (components / np.sqrt(np.maximum(variances, 0) + _FLOOR))[:, ::-1]
    filters = filters[:, np.arange((outputs + 1) // 2) % 36]
    filters = np.concatenate([filters, -filters], axis=1)[:, :outputs].astype(np.float32)
    return filters.reshape(3, 3, 4, outputs), (-mean @ filters).astype(np.float32)
