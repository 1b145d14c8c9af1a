"""What sharing a training costs: over simulated devices and processes here, and over H100s by a model.

Claim: an update whose batch is shared by n devices, or n processes, that share this machine's cores, beside
the same update on one device: strong, where a batch of 512 is divided, and weak, where each device brings
64 images. The cores are the same, so that all above 1 is overhead. What the devices exchange in an update is
read from the compiled program. For H100s the program is compiled, without any, and the time of an update on
1 to 4,096 of them is a model (`scaling_model`), no measurement.

    python -m benchmarks.scaling [--rounds 3] [--devices 8] [--no-h100]

Without `jax[cuda13]` the part about H100s is left out.
"""

import dataclasses
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import time
from typing import Any, Literal

import tyro

from benchmarks import gpu_compile, hlo, protocol, scaling_model
from benchmarks.flags import Count

LAYOUTS = ((1, 1), (1, 2), (1, 4), (1, 8), (2, 1), (4, 1))  # processes, devices of each
STRONG = 512  # images of a batch, in all
WEAK = 64  # images of a batch, a device
UPDATES = 10  # timed at once, three times over


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Measures the overhead of devices and processes that share a machine."""

    rounds: Count = 3
    """How often each layout is measured, in fresh processes, the layouts taking turns."""
    devices: Literal[1, 2, 4, 8] = 8
    """The most devices, of one process or of all, that share a batch here."""
    h100: bool = True
    """Compile for H100s as well, and estimate what sharing costs them."""


def contestant(layout: str, batch_size: int, coordinator: str = "", process_id: int = 0) -> None:
    """Times updates of the standard preset on a layout, in one of its processes; the first one prints."""
    import jax
    import numpy as np

    from jaxdigits import distributed
    from jaxdigits import mesh as meshes
    from jaxdigits.compiling import network_of
    from jaxdigits.executor import Executor
    from jaxdigits.optimizer import make_optimizer
    from jaxdigits.presets import resolve
    from jaxdigits.step import Data, epoch_order, init_state, make_update

    processes, each = map(int, layout.split("x"))
    if processes > 1:
        distributed.start(coordinator, processes, process_id)
    mesh = meshes.make_mesh(meshes.choose(processes * each, jax.local_devices()[0]))
    everywhere, n = meshes.replicated(mesh), 4096
    config = resolve("standard", batch_size=batch_size, dtype="float32")
    network = network_of(config, 10, mesh.devices.flat[0], devices=2)  # one by itself takes another form
    optimizer = make_optimizer(config, 1000)
    random = np.random.default_rng(0)
    images = meshes.resident(mesh, random.integers(0, 256, (n, 28, 28, 1), np.uint8))
    labels = meshes.resident(mesh, random.integers(0, 10, n).astype(np.int32))
    order = meshes.divided(mesh, epoch_order(0, 0, n, batch_size, mesh.size), None, "data")
    data = Data(images, labels, order, jax.jit(jax.random.key, out_shardings=everywhere)(np.uint32(0)))
    state = jax.jit(lambda p: init_state(p, optimizer), out_shardings=everywhere)(network.init(0))
    drive = Executor.of(make_update(network, optimizer, config, 1000), state, data, any_count=True)
    state = jax.block_until_ready(drive(state, data, UPDATES))
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        state = jax.block_until_ready(drive(state, data, UPDATES))
        seconds.append((time.perf_counter() - started) / UPDATES)
    if distributed.first():
        print(json.dumps({"seconds": statistics.median(seconds), "collectives": _exchanged(drive)}))


def _exchanged(drive: Any) -> list[dict[str, Any]]:
    """What the devices exchange in an update."""
    module = hlo.computations(drive.compile(1).as_text())
    (line,) = (line for line in module["ENTRY"] if line.opcode == "while")
    body = line.attributes.partition("body=%")[2].partition(",")[0]
    return [each._asdict() for each in hlo.collectives(module, body)]


def measure(processes: int, each: int, batch_size: int) -> dict[str, Any]:
    """Runs a layout in fresh processes.

    Raises:
      RuntimeError: one of them failed.
    """
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listening.getsockname()[1]}"
    code = "import sys; from benchmarks.scaling import contestant as c; a = sys.argv; "
    code += "c(a[1], int(a[2]), a[3], int(a[4]))"
    flags = f"--xla_force_host_platform_device_count={each}"
    running = [
        subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", code, f"{processes}x{each}", str(batch_size), address, str(i)],
            cwd=protocol.ROOT,
            env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(processes)
    ]
    outputs = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise RuntimeError(f"{processes} processes of {each} devices failed")
    return json.loads(outputs[0].splitlines()[-1])


def _cases(most: int) -> list[tuple[str, int, int, int]]:
    """Name, processes, devices of each and batch; each case beside one device with the same batch."""
    cases = []
    for processes, each in [layout for layout in LAYOUTS if math.prod(layout) <= most]:
        cases.append(("strong", processes, each, STRONG))
        cases.append(("weak", processes, each, WEAK * processes * each))
    alone = {("weak base", 1, 1, batch) for *_, batch in cases}
    return cases + sorted(alone - {("weak base", 1, 1, STRONG), ("weak base", 1, 1, WEAK)})


def _overheads(runs: list[dict[str, Any]], cases: list[tuple[str, int, int, int]]) -> list[dict[str, Any]]:
    """Of each case, its time over that of one device with the same batch, in the same round."""

    def seconds(processes: int, each: int, batch: int) -> list[float]:
        layout = (processes, each, batch)
        same = [run for run in runs if (run["processes"], run["devices"], run["batch_size"]) == layout]
        return [run["seconds"] for run in {run["round"]: run for run in same}.values()]

    rows = []
    for kind, processes, each, batch in cases:
        if kind != "weak base":
            here, alone = seconds(processes, each, batch), seconds(1, 1, batch)
            rows.append(
                {
                    "kind": kind,
                    "processes": processes,
                    "devices": each,
                    "batch_size": batch,
                    "milliseconds": protocol.mean([1e3 * value for value in here]),
                    "overhead": protocol.ratio(here, alone),
                }
            )
    return rows


def _h100s() -> dict[str, Any] | None:
    """What is compiled for H100s, and the model; None without the compiler."""
    if gpu_compile.plugin() is None:
        print("the part about H100s is left out: jax[cuda13] is not installed")
        return None
    code = "import json, sys; from benchmarks import scaling_model as m; "
    code += "print(json.dumps(m.compile_on(*map(int, sys.argv[1:]))))"
    compiled = []
    for gpus, batch in ((1, 64), (1, 8192), (2, 8192), (8, 8192)):
        output, _ = protocol.run(["-c", code, str(gpus), str(batch)], **gpu_compile.VARIABLES)
        compiled.append(json.loads(output.splitlines()[-1]))
        print(json.dumps(compiled[-1]), flush=True)
    estimates = scaling_model.estimate(compiled[0], compiled[1], compiled[-1]["collectives"])
    return {"compiled": compiled, "assumptions": scaling_model.ASSUMPTIONS, "estimates": estimates}


def main(arguments: Arguments) -> None:
    """Measures, prints and saves."""
    runs, cases = [], _cases(arguments.devices)
    for round_ in range(arguments.rounds):
        for kind, processes, each, batch in cases:
            layout = {"processes": processes, "devices": each, "batch_size": batch}
            same = [run for run in runs if run["round"] == round_ and run.items() >= layout.items()]
            if not same:
                runs.append({"kind": kind, "round": round_} | layout | measure(processes, each, batch))
                print(json.dumps(runs[-1]), flush=True)
    summary: dict[str, Any] = {"overheads": _overheads(runs, cases)}
    if arguments.h100 and (gpus := _h100s()):
        summary["h100"] = gpus
    print(protocol.save("scaling", runs, arguments.rounds, summary))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
