"""PyTorch in one epoch: the fastest published recipe for about 99% that we know of.

Source: github.com/tuomaso/train_mnist_fast, 8_Final_00s76.ipynb. Published: 99.04% test accuracy, mean of 30
seeds, in 0.76 s on a GTX 1660 Ti, loading excluded. Convolution 1 to 24 of 5x5, max-pool 2, ReLU,
convolution 24 to 32 of 3x3, max-pool 2, ReLU, dense 800 to 256, ReLU, dense 10. Batch 256, one epoch of 235
steps in the order of the data, Adam with betas 0.7 and 0.9, one-cycle rate up to 0.01, float32.
"""

import importlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import UInt8

from benchmarks.peers import Epoch
from benchmarks.peers.pytorch_training import (
    GRAPHS,
    PRECISION,
    accuracy,
    make_step,
    normalised,
    prepare,
    rate,
    synchronise,
)

torch: Any = importlib.import_module(
    "torch"
)  # not a dependency of this library, and unknown to its type checks
nn: Any = torch.nn

__all__ = ["SETTINGS", "train"]

EPOCHS = 1
BATCH_SIZE = 256
PEAK_RATE = 0.01

# Milliseconds a step on two cores (AMD EPYC with AVX-512 and bfloat16), PyTorch 2.13, short runs on a shared
# machine: contiguous float32 45, channels-last float32 24 to 39, contiguous bfloat16 36, channels-last
# bfloat16 14 to 20. torch.compile took half a minute to compile and was not faster. On an EPYC that has AVX2
# alone, PyTorch 2.14: 60, 29, 350, 370. On an Intel Xeon with AMX, PyTorch 2.14: 28, 24 to 33, 17 to 29, 15.
# On one that has AVX-512 BF16 without AMX, channels-last alone: float32 16 to 29, bfloat16 22 to 30.
# On a GPU: see `pytorch_training`.
SETTINGS = {
    "memory_format": "channels_last",
    "precision": PRECISION,
    "optimizer": "fused",
    "cuda_graphs": GRAPHS,
}

_LAYOUT = torch.channels_last


def train(
    images: UInt8[np.ndarray, "n 28 28 1"],
    labels: UInt8[np.ndarray, " n"],
    test_images: UInt8[np.ndarray, "m 28 28 1"],
    test_labels: UInt8[np.ndarray, " m"],
    *,
    seed: int,
    epochs: int | None = None,
) -> Iterator[Epoch]:
    """Trains by the recipe; see `benchmarks.peers`."""
    epochs = epochs or EPOCHS
    device = prepare()
    x, y = normalised(images, device, _LAYOUT), torch.from_numpy(labels).long().to(device)
    test_x, test_y = normalised(test_images, device, _LAYOUT), torch.from_numpy(test_labels).long().to(device)

    noise = torch.randn_like(x[: 4 * BATCH_SIZE])
    _Run(seed, epochs, noise, y[: len(noise)]).epoch(noise, y[: len(noise)])  # warms up

    run = _Run(seed, epochs, x, y)
    synchronise(device)
    seconds = 0.0
    for _ in range(epochs):
        started = time.perf_counter()
        run.epoch(x, y)
        synchronise(device)
        seconds += time.perf_counter() - started
        yield Epoch(seconds, accuracy(run.net, test_x, test_y))


class _Run:
    """The network and its optimizer, from the seed, to be trained on such examples."""

    def __init__(self, seed: int, epochs: int, x: Any, y: Any):
        torch.manual_seed(seed)
        layers = [nn.Conv2d(1, 24, 5), nn.MaxPool2d(2), nn.ReLU()]
        layers += [nn.Conv2d(24, 32, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten()]
        layers += [nn.Linear(800, 256), nn.ReLU(), nn.Linear(256, 10)]
        self.net = nn.Sequential(*layers).to(x.device, memory_format=_LAYOUT)
        self.optimizer = torch.optim.Adam(
            self.net.parameters(), rate(PEAK_RATE, x.device), betas=(0.7, 0.9), fused=True, capturable=GRAPHS
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, PEAK_RATE, total_steps=epochs * -(-len(x) // BATCH_SIZE), cycle_momentum=False
        )
        self.step = make_step(self.net, self.optimizer, x, y, BATCH_SIZE)

    def epoch(self, x: Any, y: Any) -> None:
        """One pass over the examples in their order, as in the recipe."""
        self.net.train()
        for start in range(0, len(x), BATCH_SIZE):
            self.step(x[start : start + BATCH_SIZE], y[start : start + BATCH_SIZE])
            self.schedule.step()
