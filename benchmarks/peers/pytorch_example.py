"""PyTorch's own MNIST example.

Source: github.com/pytorch/examples, mnist/main.py. Published, by the author of train_mnist_fast who timed it:
99.185% test accuracy in 2 min 52 s on a GTX 1660 Ti. Convolution 32 of 3x3, ReLU, convolution 64 of 3x3,
ReLU, max-pool 2, dropout 0.25, dense 128, ReLU, dropout 0.5, dense 10. Adadelta at rate 1, times 0.7 after
each epoch, batch 64, shuffled, 14 epochs, float32. Its own script loads image by image; here the images lie
in memory, and an epoch's order is an index permutation.
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

EPOCHS = 14
BATCH_SIZE = 64

# Milliseconds a step on two cores (AMD EPYC with AVX-512 and bfloat16), PyTorch 2.13, short runs on a shared
# machine: contiguous float32 78, channels-last float32 75, contiguous bfloat16 42, channels-last bfloat16
# 48 to 52. On an EPYC that has AVX2 alone, PyTorch 2.14: 79, 77, 700, 780. On an Intel Xeon with AMX, PyTorch
# 2.14: 68 to 80, 78 to 84, 54 to 57, 58 to 66. On one that has AVX-512 BF16 without AMX, contiguous alone:
# float32 47 to 56, bfloat16 56 to 57. On a GPU: see `pytorch_training`.
SETTINGS = {
    "memory_format": "contiguous",
    "precision": PRECISION,
    "optimizer": "foreach",
    "cuda_graphs": GRAPHS,
}


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
    device = prepare()
    x, y = normalised(images, device, torch.contiguous_format), torch.from_numpy(labels).long().to(device)
    test_x = normalised(test_images, device, torch.contiguous_format)
    test_y = torch.from_numpy(test_labels).long().to(device)

    noise = torch.randn_like(x[: 8 * BATCH_SIZE])
    _Run(seed, noise, y[: len(noise)]).epoch(noise, y[: len(noise)])  # warms up

    run = _Run(seed, x, y)
    synchronise(device)
    seconds = 0.0
    for _ in range(epochs or EPOCHS):
        started = time.perf_counter()
        run.epoch(x, y)
        synchronise(device)
        seconds += time.perf_counter() - started
        yield Epoch(seconds, accuracy(run.net, test_x, test_y))


class _Run:
    """The network and its optimizer, from the seed, to be trained on such examples."""

    def __init__(self, seed: int, x: Any, y: Any):
        torch.manual_seed(seed)
        layers = [nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)]
        layers += [nn.Dropout(0.25), nn.Flatten(), nn.Linear(9216, 128), nn.ReLU()]
        layers += [nn.Dropout(0.5), nn.Linear(128, 10)]
        self.net = nn.Sequential(*layers).to(x.device)
        self.optimizer = torch.optim.Adadelta(
            self.net.parameters(), lr=rate(1.0, x.device), foreach=True, capturable=GRAPHS
        )
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=1, gamma=0.7)
        self.step = make_step(self.net, self.optimizer, x, y, BATCH_SIZE)

    def epoch(self, x: Any, y: Any) -> None:
        """One pass over the examples in a new order."""
        self.net.train()
        for index in torch.randperm(len(x), device=x.device).split(BATCH_SIZE):
            self.step(x[index], y[index])
        self.schedule.step()
