"""What the PyTorch peers share: the device, their images, their number format, their step, their accuracy.

On a GPU a step is a CUDA graph, of which the GPU is told in one call: networks so small are sooner done than
Python has launched kernel after kernel (PyTorch's documentation, "CUDA Graphs"). Milliseconds a step on an
NVIDIA H200, PyTorch 2.11: in one epoch 2.3 without a graph and 0.41 with one, the example 2.1 to 2.7 and
0.46; number format and memory layout make no difference there. Several steps in one graph were not tried.
"""

import importlib
import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from jaxtyping import UInt8

from benchmarks.peers import multiplies_bfloat16

torch: Any = importlib.import_module(
    "torch"
)  # not a dependency of this library, and unknown to its type checks

__all__ = [
    "DEVIATION",
    "GRAPHS",
    "MEAN",
    "PRECISION",
    "accuracy",
    "make_step",
    "normalised",
    "prepare",
    "rate",
    "synchronise",
]

MEAN, DEVIATION = 0.1307, 0.3081  # of the training pixels, scaled to 0 to 1
EVALUATION_BATCH = 1000  # a divisor of 10,000
PRECISION = "bfloat16 autocast" if torch.cuda.is_available() or multiplies_bfloat16() else "float32"
GRAPHS = torch.cuda.is_available()

Step = Callable[[Any, Any], None]
"""Makes an update of images and their labels."""


def prepare() -> Any:
    """Lets PyTorch use the whole machine; returns the device."""
    if torch.cuda.is_available():
        torch.backends.cudnn.benchmark = True
        return torch.device("cuda")
    torch.set_num_threads(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )
    return torch.device("cpu")


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


def rate(value: float, device: Any) -> Any:
    """A learning rate as an optimizer takes it: for a graph, in the GPU's memory, where it can be changed."""
    return torch.tensor(value, device=device) if device.type == "cuda" else value


def make_step(net: Any, optimizer: Any, x: Any, y: Any, batch_size: int) -> Step:
    """What trains a network by its optimizer, in cross-entropy.

    Args:
      net: the network, which has not been trained.
      optimizer: its optimizer, with a rate from `rate`, `capturable` where there are `GRAPHS`, and a state
        that is zero before the first update.
      x: all images that it is to be trained on; only a batch of each size is looked at.
      y: their labels.
      batch_size: images of a batch, but for the last one.
    """

    def step(x: Any, y: Any) -> None:
        optimizer.zero_grad()
        # Convolutions and dense layers in bfloat16, where that is faster.
        with torch.autocast(x.device.type, torch.bfloat16, enabled=PRECISION != "float32"):
            logits = net(x)
        torch.nn.functional.cross_entropy(logits.float(), y).backward()
        optimizer.step()

    return _recorded(step, net, optimizer, _examples(x, y, batch_size)) if GRAPHS else step


def _examples(x: Any, y: Any, batch_size: int) -> list[tuple[Any, Any]]:
    """A batch of each size that the data are divided into."""
    whole, left = divmod(len(x), batch_size)
    sizes = [batch_size] * (whole > 0) + [left] * (left > 0)
    return [(x[:size], y[:size]) for size in sizes]


def _recorded(step: Step, net: Any, optimizer: Any, batches: Iterable[tuple[Any, Any]]) -> Step:
    """The same step, recorded as a graph for each size of batch; the network and its optimizer start anew.

    Args:
      step: makes an update of `net` by `optimizer`.
      net: as for `make_step`.
      optimizer: as for `make_step`.
      batches: one of each size.
    """
    first = [parameter.detach().clone() for parameter in net.parameters()]
    graphs = {len(x): _graph(step, x.clone(), y.clone()) for x, y in batches}
    with torch.no_grad():
        for parameter, value in zip(net.parameters(), first, strict=True):
            parameter.copy_(value)
        for state in optimizer.state.values():
            for value in state.values():
                value.zero_()

    def replay(x: Any, y: Any) -> None:
        graph, placed_x, placed_y = graphs[len(x)]
        placed_x.copy_(x)
        placed_y.copy_(y)
        graph.replay()

    return replay


def _graph(step: Step, x: Any, y: Any) -> tuple[Any, Any, Any]:
    """The step as a graph of updates of what lies in `x` and `y`: warms up aside, as recording wants it."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            step(x, y)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(x, y)
    return graph, x, y
