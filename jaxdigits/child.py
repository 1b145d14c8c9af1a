"""Processes that this one starts to have work done beside it: Python, with this package and nothing else.

What such a process does is its module's affair. It reads requests from its standard input and answers on its
standard output, and ends when its input does, so that none is left over however this process ends. No program
that uses this library has to guard its main module for it, as `multiprocessing` asks.
"""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

__all__ = ["cores", "end", "start"]

_PATIENCE = 2.0  # seconds that a process gets to end by itself


def start(module: str, **variables: str) -> "subprocess.Popen[bytes]":
    """Starts a module of this package as a program.

    Args:
      module: its name.
      **variables: of its environment, where this process's own does not have them.

    Raises:
      OSError: it cannot be started.
    """
    if not sys.executable or getattr(sys, "frozen", False):  # embedded, or an application of its own
        raise OSError("there is no Python to start")
    package = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-P", "-m", module],  # -P: nothing of the current folder
        env={**variables, **os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def end(process: "subprocess.Popen[bytes]") -> None:
    """Closes a process's pipes, and makes sure that it ends."""
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with contextlib.suppress(OSError):
                pipe.close()
    try:
        process.wait(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def cores() -> int:
    """The cores that this process may use: so many threads, or children, are worth having."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
