"""Where the commands begin: takes charge of Ctrl-C before anything slow is imported."""

from jaxdigits import interrupts

__all__ = ["main"]


def main(*arguments: str) -> None:
    """Runs a command.

    Args:
      *arguments: what to put before those that the process was given.
    """
    interrupts.leave_at_once()
    import sys

    from jaxdigits.__main__ import main

    main([*arguments, *sys.argv[1:]])
