"""Several processes, on one host or many, as one training, on JAX's own distributed runtime.

Each process runs the same program on its own devices and brings its share of the data; `mesh` spans all of
their devices. What is here is how they find each other, how they make sure that they are about to do the
same, and what becomes of the others when one is lost.
"""

import contextlib
import json
import math
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np

from jaxdigits.errors import DeviceError, JaxdigitsError, UsageError

__all__ = [
    "HEARTBEAT",
    "PATIENCE",
    "agree",
    "anyone",
    "first",
    "give_up",
    "one_line",
    "start",
    "together",
    "word",
]

PATIENCE = 60  # seconds that a process waits for the others to come
HEARTBEAT = 30  # seconds without a sign of life after which a process counts as lost
_ROOM = 16_384  # bytes for a text that processes exchange


def start(
    coordinator: str,
    processes: int | None = None,
    process_id: int | None = None,
    *,
    patience: float = PATIENCE,
) -> None:
    """Joins the other processes of a training. To be called before anything else is asked of JAX.

    When a process is lost, so are the others: at once where its connections break, or after `HEARTBEAT`
    seconds where they only fall silent.

    Args:
      coordinator: `host:port` of process 0, which the others can reach; or `auto`, for what JAX finds out by
        itself under SLURM, Open MPI, Kubernetes and in the cloud.
      processes: how many there are.
      process_id: which one this is, from 0.
      patience: seconds to wait for the others.

    Raises:
      UsageError: the three do not fit together, or nothing can be found out.
      DeviceError: the coordinator cannot be reached in time, or its port is taken.
    """
    known: dict[str, Any] = {}
    if coordinator != "auto":
        known = _checked(coordinator, processes, process_id)
        if process_id:
            _wait_for(coordinator, patience)
        else:
            _refuse_taken(coordinator)
    elif processes is not None or process_id is not None:
        raise UsageError("--coordinator auto finds out --processes and --process-id; leave them out")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    _translate_native_log(patience)
    try:
        jax.distributed.initialize(
            **known, initialization_timeout=math.ceil(patience), heartbeat_timeout_seconds=HEARTBEAT
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        if coordinator == "auto" and isinstance(error, ValueError):
            raise UsageError(
                f"--coordinator auto: JAX finds no SLURM, Open MPI, Kubernetes or cloud here ({reason}); "
                "give --coordinator HOST:PORT --processes N --process-id I"
            ) from error
        raise DeviceError(f"the processes of this training do not come together: {reason}") from error


def _checked(coordinator: str, processes: int | None, process_id: int | None) -> dict[str, Any]:
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise UsageError(f"--coordinator is {coordinator!r}; expected HOST:PORT of process 0, or auto")
    if processes is None or process_id is None:
        raise UsageError("--coordinator HOST:PORT goes with --processes N and --process-id I")
    if processes < 1 or not 0 <= process_id < processes:
        raise UsageError(
            f"--process-id is {process_id} of --processes {processes}; expected 0 to {processes - 1}"
        )
    return {
        "coordinator_address": coordinator,
        "num_processes": processes,
        "process_id": process_id,
        "cluster_detection_method": "deactivate",
    }


def _wait_for(coordinator: str, patience: float) -> None:
    """Waits until the coordinator takes connections: where it never does, JAX would abort the process."""
    host, _, port = coordinator.rpartition(":")
    ends, reason = time.monotonic() + patience, ""
    while (left := ends - time.monotonic()) > 0:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=left):
                return
        except OSError as error:
            reason = error.strerror or str(error)
            time.sleep(min(0.2, max(left, 0)))
    raise DeviceError(
        f"the coordinator {coordinator} cannot be reached within {patience:g} s: {reason}; start process 0 "
        "there, and see that the port is open"
    )


def _refuse_taken(coordinator: str) -> None:
    """Makes sure that the coordinator can have its port: where it cannot, JAX may crash."""
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        address = ("", int(coordinator.rpartition(":")[2]))
        socket.create_server(address, family=family, dualstack_ipv6=both).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise DeviceError(
            f"process 0 cannot have the port of --coordinator {coordinator}: {reason}; give another"
        ) from error


def _translate_native_log(patience: float) -> None:
    """Sends what native code writes to the terminal through `runtime_log`; Python's own stays as it is."""
    package = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    filtering = subprocess.Popen(  # noqa: S603  # this library's own module
        [sys.executable, "-P", "-m", "jaxdigits.runtime_log", f"{patience:g}", f"{HEARTBEAT:g}"],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=2,
    )
    if filtering.stdin is None:
        return
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        with contextlib.suppress(OSError, ValueError):  # of one that is no file, as under tests
            stream.flush()
            text = {"encoding": stream.encoding, "errors": stream.errors}
            setattr(sys, name, os.fdopen(os.dup(stream.fileno()), "w", buffering=1, **text))
        os.dup2(filtering.stdin.fileno(), number)
    filtering.stdin.close()
    filtering.returncode = 0  # it ends when this process does; nobody need wait for it


def together(value: int) -> int:
    """The value that process 0 has, in all processes: for what depends on a clock or a signal."""
    return value if jax.process_count() == 1 else int(_gathered(np.int32(value))[0])


def anyone(value: int) -> int:
    """The greatest value that any of the processes has, in all of them."""
    return value if jax.process_count() == 1 else int(_gathered(np.int32(value)).max())


def word(text: str) -> str:
    """The text that process 0 has, in all processes."""
    return text if jax.process_count() == 1 else _gathered(_in_room(text))[0].tobytes().decode().rstrip()


def first() -> bool:
    """Whether this is the process that writes."""
    return jax.process_index() == 0


def agree(fields: Mapping[str, Any]) -> None:
    """Makes sure that all processes have the same fields, such as configuration and versions.

    Args:
      fields: JSON values by name.

    Raises:
      UsageError: they differ; all processes say in what.
    """
    if jax.process_count() == 1:
        return
    gathered = _gathered(_in_room(json.dumps(dict(fields), sort_keys=True)))
    all_fields = [json.loads(row.tobytes()) for row in gathered]
    for process, others in enumerate(all_fields):
        for name in sorted(all_fields[0].keys() | others.keys()):
            ours, theirs = all_fields[0].get(name), others.get(name)
            if ours != theirs:
                raise UsageError(
                    f"process {process} differs from process 0 in {name}: {theirs!r}, not {ours!r}; "
                    "start all with the same flags and versions"
                )


def _gathered(array: Any) -> np.ndarray:
    """The arrays of all processes, one behind the other; none goes on before all have come."""
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array))


def _in_room(text: str) -> np.ndarray:
    """A text as bytes of the length that texts have in all processes."""
    content = text.encode()
    if len(content) > _ROOM:
        raise ValueError(f"{len(content)} bytes are too many to exchange")
    return np.frombuffer(content.ljust(_ROOM), np.uint8)


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Turns what a lost process does to the others' collectives into one error.

    Raises:
      DeviceError: a collective failed because a process is gone.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if isinstance(error, JaxdigitsError) or jax.process_count() == 1:
            raise
        reason = str(error).strip().partition("\n")[0]
        if not re.search(r"gloo|nccl|coordination|heartbeat|peer|socket", reason, re.IGNORECASE):
            raise
        raise DeviceError(
            f"another process of this training is gone; start all again, with --resume to go on ({reason})"
        ) from error


def give_up(status: int, line: str) -> NoReturn:
    """Tells why, and ends this process; at once where there are others, which cannot be waited for.

    What the runtime has to say of its end as well is of no use then: the line goes the way of what native
    code writes, where `runtime_log` sees that it has been told.
    """
    if not jax.distributed.is_initialized():
        print(line, file=sys.stderr)
        sys.exit(status)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode(errors="backslashreplace"))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    if first():  # on whom the others depend, so that they can tell of the same error themselves
        time.sleep(0.5)
    os._exit(status)
