"""How everything here is measured: fresh processes, taken in turn, every single run recorded.

A contestant is a command that prints one JSON object as its last line. It runs in a process of its own,
so that nothing is warm that a user would find cold; contestants alternate, so that the drift of a shared
machine hits all alike; and ratios are medians over pairs of neighbouring runs. A result file holds the
runs themselves, and where and when they were made.
"""

import functools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jaxdigits import processor
from jaxdigits.storage import write_json

__all__ = ["RESULTS", "SHORT", "alternate", "environment", "in_words", "load", "mean", "ratio", "run", "save"]

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_name("results")
SHORT = "JAXDIGITS_SHORT_BENCHMARKS"  # set in the environment: whatever is measured is a short form
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "tensorflow", "keras")


def environment() -> dict[str, Any]:
    """Hardware, versions, commit and date of a measurement."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S603
    code = ("jaxdigits", "benchmarks/*.py")
    changed = subprocess.run(  # noqa: S603
        [*git, "status", "--porcelain", "--", *code], capture_output=True, text=True, check=False
    )
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip() + ("+changes" if changed.stdout.strip() else ""),
        "processor": _processor(),
        "processor_model": _model(),
        "accelerators": accelerators(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "versions": versions,
    }


def _processor() -> str:
    """The processor's name, with the instruction sets that decide its matrix-product rate."""
    fields = processor.described()
    if not fields:
        return platform.processor() or platform.machine()
    known = ("avx2", "avx512f", "avx512_bf16", "amx_tile")
    sets = [name for name in known if name in processor.instruction_sets()]
    return f"{fields.get('model name', platform.machine())} ({', '.join(sets)})"


def _model() -> str:
    """Which of the processors of one name it is, by the numbers that its maker gives them."""
    fields = processor.described()
    known = ("cpu family", "model", "stepping")
    return ", ".join(f"{name} {fields[name]}" for name in known if name in fields)


@functools.cache
def accelerators() -> list[str]:
    """The names of the devices that JAX takes, if they are no CPU: a process of its own is asked."""
    code = "import jax; [print(d.device_kind) for d in jax.devices() if d.platform != 'cpu']"
    settings = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    command = [sys.executable, "-c", code]
    asked = subprocess.run(command, capture_output=True, text=True, check=False, env=settings)  # noqa: S603
    return asked.stdout.splitlines()


def run(command: Sequence[str], **variables: str) -> tuple[str, dict[str, Any]]:
    """Runs a command in a fresh process.

    Python keeps what it compiles, as it does unless a variable forbids it: else our modules, which are
    of a clone, would be compiled again by each process, in 0.1 to 0.2 s, and those of installed packages not.

    Args:
      command: arguments to this Python.
      **variables: environment variables to set.

    Returns:
      What it printed; and what the system measured of it: `at`, when it began, `wall_seconds` and
      `peak_memory_mib`.

    Raises:
      RuntimeError: the command failed.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    at, started = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    with subprocess.Popen(  # noqa: S603
        [sys.executable, *command],
        cwd=ROOT,
        env={**kept, **variables},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        output = process.stdout.read() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}")
    memory = round(usage.ru_maxrss / 1024, 1)
    return output, {"at": at, "wall_seconds": round(seconds, 3), "peak_memory_mib": memory}


def alternate(contestants: Mapping[str, Sequence[str]], n: int) -> Iterator[dict[str, Any]]:
    """Runs each contestant `n` times, taking turns; `{seed}` in a command is the number of the turn.

    Yields:
      What each printed as its last line, a JSON object, with the `contestant`, the `seed` and what the
      system measured.
    """
    for seed in range(n):
        for name, command in contestants.items():
            output, measured = run([part.replace("{seed}", str(seed)) for part in command])
            yield {"contestant": name, "seed": seed} | json.loads(output.splitlines()[-1]) | measured


def mean(values: Sequence[float]) -> dict[str, float]:
    """Mean, standard deviation and number."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "sd": deviation, "n": len(values)}


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios of neighbouring runs."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def _file(name: str) -> Path:
    """The result file of a benchmark on such a processor, or GPU, under such a version of Python."""
    python = ".".join(platform.python_version_tuple()[:2])
    make = in_words(accelerators()[0] if accelerators() else _processor())
    return RESULTS / f"{name}-python{python}-{make.lower().replace(' ', '-')}.json"


def in_words(processor: str) -> str:
    """A processor's make and kind, and what its like has and it has not: `AMD EPYC`, `Intel Xeon AVX2`.

    AVX2 is named where the vectors are short, AVX512 where an Intel's are long and it has no AMX.
    """
    name, _, sets = re.sub(r"\((R|TM)\)|\d+th Gen ", "", processor).partition(" (")
    lesser = ""
    if "avx2" in sets and "avx512f" not in sets:
        lesser = " AVX2"
    elif name.startswith("Intel") and "avx512f" in sets and "amx_tile" not in sets:
        lesser = " AVX512"
    return " ".join(name.split()[:2]) + lesser


def load(name: str) -> dict[str, Any] | None:
    """The content of such a file, if there is one.

    Raises:
      SystemExit: it is damaged.
    """
    path = _file(name)
    try:
        return json.loads(path.read_text()) if path.exists() else None
    except ValueError as error:
        sys.exit(f"{path}: the result file is damaged: {error}; remove it, or get it back from git")


def save(
    name: str, runs: Any, n: int, summary: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]] = ()
) -> Path:
    """Writes a result file, one a kind of processor and a Python version.

    Args:
      name: of the benchmark.
      runs: every single run.
      n: how often each contestant ran. Where the file that is there has more, or in `make bench`, this one
        is kept apart, as a short form, which is not committed.
      summary: what the tables are made from.
      earlier: the environments of runs that were made before, where a measurement was gone on with.
    """
    RESULTS.mkdir(exist_ok=True)
    path, saved = _file(name), load(name)
    if SHORT in os.environ or (saved is not None and saved["n"] > n):
        path = path.with_name(f"short-{path.name}")
    content = {"benchmark": name, "n": n, "environment": environment(), "earlier_environments": [*earlier]}
    write_json(path, content | {"summary": {**summary}, "runs": runs})
    return path
