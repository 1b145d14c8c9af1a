"""A process that prepares a data set, while the one that is to train on it compiles its programs.

TFDS cannot be imported beside other work of one process: for that while etils (`epy.lazy_imports`) replaces
Python's own import for all threads, and what another one imports may not be what it needs. Where the process
cannot be had, or ends too early, nothing is lost: who loads the data set then prepares it.

    jaxdigits.preparer < name
"""

import _thread
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import IO

from jaxdigits import child, dataset

__all__ = ["beside", "main"]


@contextlib.contextmanager
def beside(name: str, say: Callable[[str], None]) -> Iterator[None]:
    """Has a data set prepared beside what is done within this, which then waits until it is.

    Args:
      name: of the data set, one of `dataset.NAMES`.
      say: takes a line for the user.
    """
    dataset.announce(name, say)
    process = None
    try:
        with contextlib.suppress(OSError):
            process = child.start("jaxdigits.preparer")
            _ask(process, name)
        yield
        if process:
            process.wait()
    finally:
        if process:
            child.end(process)


def _ask(process: "subprocess.Popen[bytes]", name: str) -> None:
    if process.stdin:
        process.stdin.write(json.dumps(name).encode() + b"\n")
        process.stdin.flush()


def _stop_with(pipe: IO[bytes]) -> None:
    """Interrupts the main thread once nobody holds the other end of the pipe."""
    pipe.read()
    _thread.interrupt_main()


def main() -> None:
    """Prepares the data set that is named on standard input, unless that is closed before."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        name = json.loads(sys.stdin.buffer.readline())
        threading.Thread(target=_stop_with, args=(sys.stdin.buffer,), daemon=True).start()
        dataset.load(name, say=lambda _: None)
    finally:  # half a folder has been cleared away by now
        os._exit(0)  # without a word: who has asked looks for what is there, and not for how this ended


if __name__ == "__main__":
    main()
