"""What the training costs on a GPU, as far as it can be known where there is none: it is compiled for one.

Claim: the program of a whole epoch, over the images in the GPU's memory, is compiled by XLA's own compiler
for an H200, an H100 and an A100; how long that takes, what memory it needs beside the data, and what it
launches for an update. Nothing is run. From the launches, the bytes and the operations follows a range for
the time of an epoch, which is an estimate under the assumptions below, and no measurement.

    python -m benchmarks.gpu_compile [--rounds 3] [--presets fast standard gpu]
        [--gpus h200 h100 a100]

Needs `pip install .[cuda13]` under Python 3.12 or newer, and no GPU; without it, says so and ends with
status 77. The compiler has no GPU to try kernels on: it takes its first choice of them, here, and may find
better ones there.
"""

import dataclasses
import importlib.util
import json
import mmap
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import tyro

from benchmarks import hlo, protocol
from benchmarks.__main__ import LEFT_OUT
from benchmarks.flags import Count
from benchmarks.hlo import Kernel
from jaxdigits.compiling import Plan
from jaxdigits.config import Preset, TrainConfig
from jaxdigits.presets import PRESETS
from jaxdigits.splits import MNIST_IMAGES, taught

GPU = Literal["h200", "h100", "a100"]
MODELS = {
    "h200": "NVIDIA H200 141GB HBM3e",
    "h100": "NVIDIA H100 80GB HBM3",
    "a100": "NVIDIA A100-SXM4-80GB",
}
"""As the compiler's own descriptions name them."""
VARIABLES = {
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",  # which asks a driver that need not be there
    "JAX_PLATFORMS": "",
    "JAX_ENABLE_COMPILATION_CACHE": "false",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
"""The environment of a process that compiles for a GPU."""

LAUNCH = {"low": 1.0, "middle": 3.4, "high": 5.0}
"""Microseconds that a kernel costs beside its bytes and operations. Low: what XLA's cost model takes a launch
to cost (xla/service/gpu/model/gpu_performance_model_base.h, kKernelLaunchOverhead), as if the kernel itself
then took no longer than its bytes. Middle: a short kernel, launch and execution, within a CUDA graph
(NVIDIA 2019, "Getting started with CUDA graphs", on a V100; 3.8 without a graph). High: what XLA's cost model
took before, and about what the host needs to launch one."""
ASSUMPTIONS = (
    "an update's kernels run one after the other; each takes the larger of its bytes at full memory "
    "bandwidth and its operations at the full float32 rate, and a fixed time for its launch",
    "bandwidth and float32 rate, without tensor cores, are those of the compiler's description of the GPU, "
    "which are the published ones",
    "every operand is read, and every result written, once, and in memory; of the data set, what is gathered",
    "a call of cuDNN is one kernel; its workspace is not known",
    "operations are those of products and convolutions",
    "between epochs the host needs no time",
)


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Compiles the training for GPUs, without one."""

    rounds: Count = 3
    """How often each program is compiled, each time in a fresh process."""
    presets: tuple[Preset, ...] = ("fast", "standard", "gpu")
    """The presets to compile."""
    gpus: tuple[GPU, ...] = ("h200", "h100", "a100")
    """The GPUs to compile for."""


def plugin() -> Path | None:
    """The compiler for NVIDIA's GPUs, if it is installed."""
    for name in ("xla_cuda13", "xla_cuda12"):
        try:
            found = importlib.util.find_spec(f"jax_plugins.{name}")
        except ModuleNotFoundError:
            continue
        if found and found.origin:
            library = Path(found.origin).with_name("xla_cuda_plugin.so")
            if library.exists():
                return library
    return None


def description(library: Path, model: str) -> str:
    """The compiler's description of a GPU: a GpuTargetConfigProto as text, which lies in its library.

    The same texts are files in openxla/xla under xla/backends/gpu/target_config/specs.

    Raises:
      ValueError: there is none of this model.
    """
    last = f'device_description_str: "{model}"\n'.encode()
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = content.find(last)
        start = content.rfind(b"gpu_device_info {", 0, end)
        if end < 0 or start < 0:
            raise ValueError(f"{library} has no description of {model}")
        return content[start : end + len(last)].decode()


def rates(text: str) -> tuple[float, float]:
    """Memory bandwidth in bytes per second, and float32 operations per second, from a description."""
    fields = {name: float(value) for name, value in reversed(re.findall(r"^  (\w+): ([\d.]+)$", text, re.M))}
    cores, units = fields["core_count"], fields["fpus_per_core"]
    return fields["memory_bandwidth"], 2 * cores * units * fields["clock_rate_ghz"] * 1e9


def step_seconds(launched: Sequence[Kernel], bandwidth: float, rate: float, launch: float) -> float:
    """An update's time under the assumptions, with `launch` seconds a kernel."""
    return sum(launch + max(each.bytes / bandwidth, each.operations / rate) for each in launched)


def contestant(gpu: str, preset: str) -> None:
    """Compiles one program in this process, and prints what it is like."""
    library = plugin()
    if library is None:
        raise SystemExit("the compiler for NVIDIA's GPUs is not installed")
    target = description(library, MODELS[gpu])
    config = PRESETS[preset]
    plan = Plan.of(config, taught(config, MNIST_IMAGES), classes=10)
    started = time.perf_counter()
    program = compile_for(config, plan, target)
    seconds = time.perf_counter() - started
    memory = program.memory_analysis()
    launched, trips = hlo.launched(program.as_text(), plan.images)
    bandwidth, rate = rates(target)
    result = {
        "seconds_to_compile": round(seconds, 3),
        "updates": trips,
        "argument_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "kernels": dict(Counter(kernel.kind for kernel in launched)),
        "bytes_per_update": sum(kernel.bytes for kernel in launched),
        "operations_per_update": sum(kernel.operations for kernel in launched),
        "bandwidth": bandwidth,
        "float32_rate": rate,
        "estimated_epoch_seconds": {
            name: round(trips * step_seconds(launched, bandwidth, rate, launch / 1e6), 4)
            for name, launch in LAUNCH.items()
        },
    }
    print(json.dumps(result))


def compile_for(config: TrainConfig, plan: Plan, target: str, gpus: int = 1, *, shared: bool = False) -> Any:
    """The epoch's program, as `training` asks its executor for it, for GPUs that are only described.

    Args:
      config: the configuration.
      plan: of the training.
      target: what the compiler is to know of the GPU, as `description` gives it.
      gpus: how many of them, in one host.
      shared: for one GPU, too, the form of the program that several share.
    """
    import jax
    from jax.experimental import topologies

    from jaxdigits import mesh as meshes
    from jaxdigits.compiling import data_shapes, network_of
    from jaxdigits.executor import Executor
    from jaxdigits.optimizer import make_optimizer
    from jaxdigits.step import init_state, make_update

    topology = topologies.get_topology_desc(
        "described", platform="cuda", target_config=target, topology=f"1x1x{gpus}"
    )
    mesh = meshes.make_mesh(topology.devices)
    network = network_of(config, plan.outputs, topology.devices[0], max(gpus, 1 + shared))
    optimizer = make_optimizer(config, plan.updates)
    state = jax.eval_shape(lambda params: init_state(params, optimizer), network.shapes)
    state = meshes.shapes_on(meshes.replicated(mesh), state)
    update = make_update(network, optimizer, config, plan.updates)
    executor = Executor.of(update, state, data_shapes(config, plan, mesh), any_count=False)
    return executor.compile(plan.updates_per_epoch)


def main(arguments: Arguments) -> None:
    """Measures, prints and saves."""
    library = plugin()
    if library is None:
        print("gpu_compile is left out: jax[cuda13] is not installed; pip install '.[cuda13]', Python 3.12+")
        sys.exit(LEFT_OUT)
    code = "import sys; from benchmarks.gpu_compile import contestant; contestant(*sys.argv[1:])"
    runs: list[dict[str, Any]] = []
    for round_ in range(arguments.rounds):
        for gpu in arguments.gpus:
            for preset in arguments.presets:
                output, measured = protocol.run(["-c", code, gpu, preset], **VARIABLES)
                result = json.loads(output.splitlines()[-1])
                runs.append({"gpu": gpu, "preset": preset, "round": round_} | result | measured)
                _tell(runs[-1])
    summary = {
        "gpus": {gpu: MODELS[gpu] for gpu in arguments.gpus},
        "compiler": version("jaxlib"),
        "microseconds_per_kernel": LAUNCH,
        "assumptions": ASSUMPTIONS,
        "programs": _programs(runs),
    }
    print(protocol.save("gpu_compile", runs, arguments.rounds, summary))


def _programs(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry a GPU and preset: what the compiler made, which does not vary, and its mean time."""
    programs = []
    for run in (run for run in runs if run["round"] == 0):
        same = [other for other in runs if (other["gpu"], other["preset"]) == (run["gpu"], run["preset"])]
        times = protocol.mean([other["seconds_to_compile"] for other in same])
        fixed = {
            key: value
            for key, value in run.items()
            if key not in ("round", "wall_seconds", "peak_memory_mib")
        }
        programs.append(fixed | {"seconds_to_compile": times})
    return programs


def _tell(run: dict[str, Any]) -> None:
    estimate = run["estimated_epoch_seconds"]
    launched, cudnn = sum(run["kernels"].values()), run["kernels"].get("cudnn", 0)
    print(
        f"{run['preset']} for {run['gpu']}: compiled in {run['seconds_to_compile']:.1f} s, "
        f"{launched} kernels an update, {cudnn} of them cuDNN's, "
        f"{run['bytes_per_update'] / 1e6:.0f} MB, {run['operations_per_update'] / 1e9:.2f} GFLOP; estimated "
        f"{estimate['low']:.2f} to {estimate['high']:.2f} s an epoch",
        flush=True,
    )


if __name__ == "__main__":
    main(tyro.cli(Arguments))
