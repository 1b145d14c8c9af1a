"""PyTorch in one epoch: the fastest published recipe for about 99% that we know of.

Source: github.com/tuomaso/train_mnist_fast, 8_Final_00s76.ipynb. Published: 99.04% test accuracy, mean of 30
seeds, in 0.76 s on a GTX 1660 Ti, loading excluded. Convolution 1 to 24 of 5x5, max-pool 2, ReLU,
convolution 24 to 32 of 3x3, max-pool 2, ReLU, dense 800 to 256, ReLU, dense 10. Batch 256, one epoch of 235
steps in the order of the data, Adam with betas 0.7 and 0.9, one-cycle rate up to 0.01, float32.
"""

import importlib
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import UInt8

from benchmarks.peers import Epoch, multiplies_bfloat16
from benchmarks.peers.cuda_graphs import examples, rate, recorded

torch: Any = importlib.import_module(
    "torch"
)  # not a dependency of this library, and unknown to its type checks
nn: Any = torch.nn

__all__ = [
    "GRAPHS",
    "PRECISION",
    "SETTINGS",
    "accuracy",
    "autocast",
    "normalised",
    "prepare",
    "synchronise",
    "train",
]

EPOCHS = 1
BATCH_SIZE = 256
PEAK_RATE = 0.01
MEAN, DEVIATION = 0.1307, 0.3081  # of the training pixels, scaled to 0 to 1
EVALUATION_BATCH = 1000  # a divisor of 10,000

PRECISION = "bfloat16 autocast" if torch.cuda.is_available() or multiplies_bfloat16() else "float32"

# Milliseconds a step on two cores (AMD EPYC with AVX-512 and bfloat16), PyTorch 2.13, short runs on a shared
# machine: contiguous float32 45, channels-last float32 24 to 39, contiguous bfloat16 36, channels-last
# bfloat16 14 to 20. torch.compile took half a minute to compile and was not faster. On an EPYC that has AVX2
# alone, PyTorch 2.14: 60, 29, 350, 370. On an Intel Xeon with AMX, PyTorch 2.14: 28, 24 to 33, 17 to 29, 15.
# On a GPU: see `cuda_graphs`.
GRAPHS = torch.cuda.is_available()
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
        self.net.train()
        self.step = self._step
        if GRAPHS:
            self.step = recorded(self._step, self.net, self.optimizer, examples(x, y, BATCH_SIZE))

    def _step(self, x: Any, y: Any) -> None:
        self.optimizer.zero_grad()
        with autocast(x.device):
            logits = self.net(x)
        nn.functional.cross_entropy(logits.float(), y).backward()
        self.optimizer.step()

    def epoch(self, x: Any, y: Any) -> None:
        """One pass over the examples in their order, as in the recipe."""
        self.net.train()
        for start in range(0, len(x), BATCH_SIZE):
            self.step(x[start : start + BATCH_SIZE], y[start : start + BATCH_SIZE])
            self.schedule.step()


# What both PyTorch peers share.


def prepare() -> Any:
    """Lets PyTorch use the whole machine; returns the device."""
    if torch.cuda.is_available():
        torch.backends.cudnn.benchmark = True
        return torch.device("cuda")
    torch.set_num_threads(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )
    return torch.device("cpu")


def autocast(device: Any) -> Any:
    """A context within which convolutions and dense layers compute in bfloat16, where that is faster."""
    return torch.autocast(device.type, torch.bfloat16, enabled=PRECISION != "float32")


def normalised(images: UInt8[np.ndarray, "n 28 28 1"], device: Any, layout: Any) -> Any:
    """Pixels as both recipes want them: float32 [n, 1, 28, 28], of mean 0 and deviation 1, on the device."""
    pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float()
    return pixels.div_(255).sub_(MEAN).div_(DEVIATION).contiguous(memory_format=layout)


def synchronise(device: Any) -> None:
    """Waits until the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def accuracy(net: Any, x: Any, y: Any) -> float:
    """The share of the examples that are classified rightly, each counted once."""
    net.eval()
    with torch.inference_mode():
        batches = zip(x.split(EVALUATION_BATCH), y.split(EVALUATION_BATCH), strict=True)
        correct = sum((net(images).argmax(1) == labels).sum() for images, labels in batches)
    return int(correct) / len(y)
