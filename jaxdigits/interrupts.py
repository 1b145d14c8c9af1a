"""Ctrl-C and SIGTERM: what they do while a command starts, while it trains, and in between.

While a program is being imported there is nothing to clear away, and an exception in the middle of it would
be a traceback, or be lost in a callback: a signal ends the process with one line. A training notes the first
signal and looks at it between two calls of the device; the second one leaves at once. Whoever uses the
library in a program of their own keeps their handlers outside of a training.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["Interrupted", "Watch", "leave_at_once", "unwinding"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal ended what was going on.

    Args:
      number: of the signal.
      message: one line: what has been saved, and how to go on.
    """

    def __init__(self, number: int, message: str = "interrupted"):
        super().__init__(message)
        self.exit_status = 128 + number  # as shells have it: 130 for Ctrl-C, 143 for SIGTERM


def leave_at_once() -> None:
    """From now on a signal prints a line and ends the process, with status 130 or 143."""
    _handle(_leave)


@contextlib.contextmanager
def unwinding() -> Iterator[None]:
    """Within it, a signal that would leave at once raises `Interrupted`, so that files are cleared away.

    Where `leave_at_once` was not called, nothing changes.
    """
    ours = [number for number in _SIGNALS if signal.getsignal(number) is _leave]
    for number in ours:
        signal.signal(number, _raise)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, _leave)


class Watch:
    """Notes the first signal while it is entered, and leaves at once at the second.

    Python gives signals to its main thread alone: in another one nothing is noted.

    Attributes:
      number: of the signal that came, or None.
    """

    number: int | None = None

    def __enter__(self) -> "Watch":
        if threading.current_thread() is threading.main_thread():
            self._before = _handle(self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            _leave(number, frame)
        self.number = number


Handler = Callable[[int, FrameType | None], None]


def _handle(handler: Handler) -> dict[int, Handler | int]:
    """Installs a handler for each signal that is not ignored, and returns those before it."""
    before = {}
    for number in _SIGNALS:
        present = signal.getsignal(number)
        if present is not None and present is not signal.SIG_IGN:  # a shell's background job ignores Ctrl-C
            before[number] = signal.signal(number, handler)
    return before


def _leave(number: int, _frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"jaxdigits: interrupted\n")
    os._exit(128 + number)


def _raise(number: int, _frame: FrameType | None) -> None:
    raise Interrupted(number)
