"""Where the commands begin and end: takes charge of Ctrl-C before anything slow is imported.

At the end the process leaves without tidying up: to free what the system frees anyway, array by array and
program by program, took 0.4 s of every command.
"""

from jaxdigits import interrupts

__all__ = ["main"]


def main(*arguments: str) -> None:
    """Runs a command, and ends the process with its exit status.

    Args:
      *arguments: what to put before those that the process was given.
    """
    interrupts.leave_at_once()
    import contextlib
    import os
    import sys

    from jaxdigits.__main__ import main

    status: object = 0
    try:
        main([*arguments, *sys.argv[1:]])
    except SystemExit as stop:
        status = stop.code or 0
    if (jax := sys.modules.get("jax")) and jax.distributed.is_initialized():
        jax.distributed.shutdown()  # waits for the other processes, who would miss this one
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status if isinstance(status, int) else 1)
