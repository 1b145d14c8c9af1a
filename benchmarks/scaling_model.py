"""The time of an update on 1 to 4,096 H100s, from what the compiler makes of it: a model, no measurement.

The program is compiled for one host of 1, 2 and 8 H100s that are only described; from its text come the
kernels and the exchanges of an update. What an exchange costs is NCCL's own estimate of it.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from benchmarks import gpu_compile, hlo
from jaxdigits.compiling import Plan
from jaxdigits.presets import PRESETS
from jaxdigits.splits import MNIST_IMAGES, taught

__all__ = ["ASSUMPTIONS", "GPUS", "allreduce_seconds", "compile_on", "estimate"]

GPUS = tuple(2**i for i in range(13))  # 1 to 4,096
HOST = 8  # GPUs of a host: DGX H100 and the like
NVLINK = 450e9  # bytes per second of a GPU in one direction: NVIDIA, H100 data sheet, 900 GB/s in both
NETWORK = 50e9  # bytes per second of a GPU in one direction: an InfiniBand NDR port of 400 Gb/s for each
BASE, WITHIN, BETWEEN = 14.0e-6, 1.25e-6, 8.5e-6  # seconds: NCCL, src/graph/tuning.cc, tree, LL128
ASSUMPTIONS = (
    *gpu_compile.ASSUMPTIONS,
    f"hosts of {HOST} GPUs; {NVLINK / 1e9:.0f} GB/s from each GPU within a host (NVLink 4, published), "
    f"{NETWORK / 1e9:.0f} GB/s between hosts (one NDR InfiniBand port a GPU, published)",
    "an exchange takes what NCCL itself estimates for a tree of 128-byte messages (src/graph/tuning.cc): "
    f"{BASE * 1e6:g} us, and twice {WITHIN * 1e6:g} us for each other GPU of the host and "
    f"{BETWEEN * 1e6:g} us for each doubling of the hosts, and its bytes twice over the slowest link",
    "exchanges hide behind nothing: next to nothing is left to do while that of the gradients is under way; "
    "that of the number of images, one float, could hide behind the forward pass",
    "all GPUs and links are equally fast at all times; none waits for another one's kernels",
    "the time of kernels is linear in the images of a GPU, between and beyond the two batches compiled",
)


def allreduce_seconds(size: int, gpus: int) -> float:
    """An all-reduce of so many bytes, under the assumptions."""
    if gpus == 1:
        return 0.0
    within, hosts = min(gpus, HOST), math.ceil(gpus / HOST)
    latency = BASE + 2 * ((within - 1) * WITHIN + math.log2(hosts) * BETWEEN)
    return latency + 2 * size / (NVLINK if hosts == 1 else NETWORK)


def compile_on(gpus: int, batch_size: int, preset: str = "standard") -> dict[str, Any]:
    """Compiles a preset's epoch for one host of H100s, and tells what an update launches and exchanges.

    A single GPU has the program's form of several, to be compared with them.

    Raises:
      ValueError: the compiler for NVIDIA's GPUs is not installed.
    """
    library = gpu_compile.plugin()
    if library is None:
        raise ValueError("the compiler for NVIDIA's GPUs is not installed")
    target = gpu_compile.description(library, gpu_compile.MODELS["h100"])
    config = dataclasses.replace(PRESETS[preset], batch_size=batch_size)
    plan = Plan.of(config, taught(config, MNIST_IMAGES), classes=10)
    program = gpu_compile.compile_for(config, plan, target, gpus, shared=True)
    module = hlo.computations(program.as_text())
    body, _ = hlo.loop(module)
    exchanged = hlo.collectives(module, body)
    launched = [each for each in hlo.kernels(module, body, plan.images) if not _exchanges(each)]
    bandwidth, rate = gpu_compile.rates(target)
    seconds = {
        name: gpu_compile.step_seconds(launched, bandwidth, rate, launch / 1e6)
        for name, launch in gpu_compile.LAUNCH.items()
    }
    return {
        "gpus": gpus,
        "batch_size": batch_size,
        "kernels": len(launched),
        "bytes": sum(each.bytes for each in launched),
        "operations": sum(each.operations for each in launched),
        "compute_seconds": seconds,
        "collectives": [each._asdict() for each in exchanged],
        "bytes_exchanged": sum(each.bytes for each in exchanged),
    }


def _exchanges(kernel: hlo.Kernel) -> bool:
    """Whether it is an exchange, which also comes as a fusion of its own."""
    return kernel.kind.endswith("-start") or kernel.kind in ("all-reduce", "all-gather", "reduce-scatter")


def estimate(
    small: dict[str, Any], large: dict[str, Any], exchanged: Sequence[dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """Step time and efficiency, strong and weak, under the assumptions with a kernel's middle launch cost.

    Args:
      small: what `compile_on` gives for one GPU and few images.
      large: the same for many images.
      exchanged: the collectives of an update on several GPUs.
    """
    low, high = small["batch_size"], large["batch_size"]
    least, most = (each["compute_seconds"]["middle"] for each in (small, large))

    def step(images: float, gpus: int) -> dict[str, float]:
        compute = least + (most - least) * (images - low) / (high - low)
        exchange = sum(allreduce_seconds(each["bytes"], gpus) for each in exchanged)
        return {"compute": compute, "exchange": exchange, "step": compute + exchange}

    result: dict[str, list[dict[str, Any]]] = {"strong": [], "weak": []}
    for gpus in GPUS:
        shared, own = step(large["batch_size"] / gpus, gpus), step(1024, gpus)
        strong = step(large["batch_size"], 1)["step"] / (gpus * shared["step"])
        weak = step(1024, 1)["step"] / own["step"]
        for name, times, efficiency in (("strong", shared, strong), ("weak", own, weak)):
            microseconds = {f"{part}_us": round(1e6 * value, 1) for part, value in times.items()}
            result[name].append({"gpus": gpus} | microseconds | {"efficiency": round(efficiency, 4)})
    return result
