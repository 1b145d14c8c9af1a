"""This library's network in PyTorch, for prediction alone, with weights drawn at random.

The layers are those of `jaxdigits.model`: 2x2 blocks to channels, 3x3 convolutions without padding, max-pool
2 behind the second, dense, dense; pixels/255, of mean 0 and deviation 1; probabilities.
"""

import importlib
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from benchmarks.peers.pytorch_training import DEVIATION, MEAN, prepare

torch: Any = importlib.import_module(
    "torch"
)  # not a dependency of this library, and unknown to its type checks
nn: Any = torch.nn

__all__ = ["SETTINGS", "predictor"]

# Microseconds an image, and milliseconds of one picture alone, with channels 16, 64, 64 and hidden 128, on
# two cores (AMD EPYC with AVX-512 and bfloat16), PyTorch 2.13, short runs on a shared machine.
# float32: frozen trace, channels-last 20 and 0.14, contiguous 21 and 0.26; the same optimised for inference
# 18 to 30 and 0.3; eager 22 to 28 and 0.2 to 0.3; torch.compile 21 to 25 and 0.2 to 0.3, after 4 to 8 s.
# bfloat16: eager autocast, contiguous, batches of 1000 13 and 0.43, channels-last 15 to 110; frozen 19 and
# 0.5; torch.compile 15 to 21 and 0.7. On a Xeon with AMX, with channels 32, 64, 128 and hidden 256: float32
# frozen trace, channels-last, batches of 256 58, of 1000 51, contiguous 69; bfloat16 eager, contiguous,
# batches of 1000 22 to 31, of 256 15 to 40, channels-last 27 to 38.
SETTINGS = {
    "float32": {"batch_size": 1000, "memory_format": "channels_last", "program": "frozen trace"},
    "bfloat16": {"batch_size": 256, "memory_format": "contiguous_format", "program": "eager autocast"},
}


def predictor(
    channels: tuple[int, ...], hidden: int, classes: int, dtype: str = "float32"
) -> Callable[[UInt8[np.ndarray, "n 28 28 1"]], Float[np.ndarray, "n classes"]]:
    """The network as a function of any number of images to probabilities; `dtype` is that of its products."""
    device = prepare()
    settings = SETTINGS[dtype]
    layout, batch_size = getattr(torch, settings["memory_format"]), settings["batch_size"]
    torch.manual_seed(0)
    layers = [nn.PixelUnshuffle(2)]
    for index, (inputs, outputs) in enumerate(pairwise((4, *channels))):
        layers += [nn.Conv2d(inputs, outputs, 3), *[nn.MaxPool2d(2)] * (index == 1), nn.ReLU()]
    side = 5 - 2 * (len(channels) - 2)
    layers += [nn.Flatten(), nn.Linear(side * side * channels[-1], hidden), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(hidden, classes)).to(device, memory_format=layout).eval()

    def pixels(images: np.ndarray) -> Any:
        x = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float()
        return x.div_(255).sub_(MEAN).div_(DEVIATION).contiguous(memory_format=layout)

    if dtype == "float32":
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # since 2.14 a trace is deprecated; see above
            example = pixels(np.zeros((batch_size, 28, 28, 1), np.uint8))
            net = torch.jit.freeze(torch.jit.trace(net, example))

    def predict(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=dtype != "float32"):
            batches = (images[start : start + batch_size] for start in range(0, len(images), batch_size))
            logits = torch.cat([net(pixels(batch)) for batch in batches])
            return logits.float().softmax(1).cpu().numpy()

    return predict
