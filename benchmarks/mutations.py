"""What the readers make of hostile input: an answer or one line, in a second and in bounded memory.

Claim: of more than 20,000 inputs made by `hostile` none ends in an exception that is not one of the
documented classes or, given to a command, in anything but one line and a documented status; none takes longer
than `SECONDS`; and no process takes more memory than its reader's bound above what it has after a good input.

    python -m benchmarks.mutations [--readers idx ...] [--scale 0.1] [--seed 0]

Each reader has a process of its own, whose address space is limited: memory that is asked for on the word of
a header fails, used or not. The last line is a JSON object.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import tyro

from benchmarks.__main__ import LEFT_OUT
from benchmarks.flags import Natural, Positive
from benchmarks.hostile import READERS, ReaderName
from benchmarks.protocol import ROOT, save
from jaxdigits.errors import JaxdigitsError

__all__ = ["SECONDS", "check"]

SECONDS = 1.0  # for one input
_HANGING = 60.0  # seconds after which an input is given up


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Gives hostile input to all that reads any, and looks what comes of it."""

    readers: tuple[ReaderName, ...] = get_args(ReaderName)
    """The readers; the figures of some are not saved."""
    scale: Positive = 1.0
    """Of the full number of inputs."""
    seed: Natural = 0
    """Of the mutations."""


def check(name: str, count: int, seed: int = 0, *, limited: bool = False) -> dict[str, Any]:
    """Gives a reader so many inputs, and tells what came of them.

    Args:
      name: of the reader.
      count: inputs.
      seed: of the mutations.
      limited: limit this process's address space, once it has read something; not to be undone.

    Returns:
      Numbers of `inputs`, those `read` and `refused`; `offences`, of which there should be none, each with
      the `input`'s number; seconds; and, in MiB, how much the peak of memory `grew`.
    """
    reader, outcomes, offences = READERS[name], Counter[str](), []
    slowest, total, before, inputs = 0.0, 0.0, 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        # The first inputs warm up: imports, compiled programs. They count, but not their time and memory.
        warm = len(warming := list(itertools.islice(iter(reader.inputs(20, seed + 1)), 20)))
        for index, item in enumerate(itertools.chain(warming, reader.inputs(count, seed))):
            inputs = index + 1
            if index == warm:
                before = _peak()
                if limited:
                    _limit(reader.mebibytes)
            started = time.perf_counter()
            try:
                with _given_up_after(_HANGING):
                    reader.read(item, Path(folder))
                outcomes["read"] += 1
            except JaxdigitsError as error:
                outcomes["refused"] += 1
                if "\n" in str(error).strip():
                    offences.append({"input": index, "error": str(error)})
            except BaseException as error:  # what must never happen is what is looked for
                if isinstance(error, KeyboardInterrupt):
                    raise
                offences.append({"input": index, "error": repr(error)[:500]})
            seconds = time.perf_counter() - started
            if index >= warm:
                slowest, total = max(slowest, seconds), total + seconds
                if seconds > SECONDS:
                    offences.append({"input": index, "error": f"{seconds:.2f} s"})
    return {
        "reader": name,
        "inputs": inputs,
        "read": outcomes["read"],
        "refused": outcomes["refused"],
        "offences": offences[:20],
        "mean_seconds": round(total / count, 5),
        "slowest_seconds": round(slowest, 3),
        "grew_mebibytes": round(_peak() - before, 1),
        "bound_mebibytes": reader.mebibytes,
    }


def _peak() -> float:
    """Peak of this process's memory, in MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _limit(mebibytes: int) -> None:
    """Leaves this process so much address space beyond what it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * os.sysconf("SC_PAGE_SIZE") + mebibytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


@contextlib.contextmanager
def _given_up_after(seconds: float) -> Iterator[None]:
    """Raises `TimeoutError` where what is inside takes longer."""

    def late(*_: object) -> None:
        raise TimeoutError(f"given up after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def alone(name: str, count: int, seed: int) -> dict[str, Any]:
    """`check` in a process of its own; where that dies, that is the offence."""
    code = "import sys; from benchmarks.mutations import in_this_process; in_this_process(*sys.argv[1:])"
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", code, name, str(count), str(seed)],
            cwd=ROOT,
            env={**os.environ, "JAXDIGITS_CACHE": cache},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        end = (done.stderr or "").strip().rpartition("\n")[2]
        return {"reader": name, "inputs": 0, "offences": [{"error": f"status {done.returncode}: {end}"}]}
    return json.loads(done.stdout.splitlines()[-1])


def in_this_process(name: str, count: str, seed: str) -> None:
    """`check`, whose figures it prints."""
    print(json.dumps(check(name, int(count), int(seed), limited=sys.platform == "linux")))


def main(arguments: Arguments) -> None:
    """Runs the readers, one process each, prints and saves the figures, and fails where the claim does."""
    try:
        import hypothesis  # noqa: F401
    except ImportError:
        print("benchmarks.mutations draws from Hypothesis; install jaxdigits[test]")
        sys.exit(LEFT_OUT)
    runs = []
    for name in arguments.readers:
        runs.append(alone(name, max(1, round(READERS[name].full * arguments.scale)), arguments.seed))
        print(json.dumps(runs[-1]), flush=True)
    inputs, offences = sum(run["inputs"] for run in runs), sum(len(run["offences"]) for run in runs)
    summary = {"inputs": inputs, "offences": offences, "seconds_bound": SECONDS, "seed": arguments.seed}
    if set(arguments.readers) == set(READERS):
        save("mutations", runs, inputs, summary)
    print(json.dumps(summary))
    if offences:
        sys.exit(1)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
