"""What both PyTorch peers do on a GPU: their steps as CUDA graphs, each told to the GPU in one call.

Their networks are so small that launching kernel after kernel from Python takes longer than the kernels do
(PyTorch's documentation, "CUDA Graphs"). Milliseconds a step on an NVIDIA H200, PyTorch 2.11: in one epoch
2.3 without a graph and 0.41 with one, the example 2.1 to 2.7 and 0.46; number format and memory layout make
no difference there.
"""

import importlib
from collections.abc import Callable, Iterable
from typing import Any

torch: Any = importlib.import_module(
    "torch"
)  # not a dependency of this library, and unknown to its type checks

__all__ = ["Step", "examples", "rate", "recorded"]

Step = Callable[[Any, Any], None]
"""Makes an update of images and their labels."""


def rate(value: float, device: Any) -> Any:
    """A learning rate as an optimizer takes it: for a graph, in the GPU's memory, where it can be changed."""
    return torch.tensor(value, device=device) if device.type == "cuda" else value


def examples(x: Any, y: Any, batch_size: int) -> list[tuple[Any, Any]]:
    """A batch of each size that the data are divided into."""
    whole, left = divmod(len(x), batch_size)
    sizes = [batch_size] * (whole > 0) + [left] * (left > 0)
    return [(x[:size], y[:size]) for size in sizes]


def recorded(step: Step, net: Any, optimizer: Any, batches: Iterable[tuple[Any, Any]]) -> Step:
    """The same step, recorded as a graph for each size of batch; the network and its optimizer start anew.

    Args:
      step: makes an update of `net` by `optimizer`, which has `capturable` set.
      net: the network, which has not been trained.
      optimizer: its optimizer, whose state is zero before the first update.
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
