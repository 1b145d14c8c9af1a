"""When checkpoints are written, and by whom: beside the training, by a thread that it does not wait for."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["Saver"]

_GAP = 100.0  # between two checkpoints at least so many times what one takes: they cost a hundredth at most


class Saver:
    """Has checkpoints written by a thread of its own, one at a time. Use it as a context manager.

    While one is being written no other is begun: where the disk is slow there are fewer of them, and the
    training does not wait.

    Args:
      interval: seconds between two of them.

    Attributes:
      count: how many have been begun.
      seconds: time that the training has spent on them.
      background: time that the thread has spent on them.
    """

    def __init__(self, interval: float):
        self.interval = interval
        self.count, self.seconds, self.background = 0, 0.0, 0.0
        self._last, self._cost = time.perf_counter(), 0.0
        self._pool: ThreadPoolExecutor | None = None
        self._pending: Future[None] | None = None

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._pool:
            self._pool.shutdown()

    def due(self, *, epoch_end: bool = False) -> bool:
        """Whether it is time for another one: at the interval, and at the end of an epoch that is not short.

        Raises:
          StorageError: the last one could not be written.
        """
        if self._pending:
            if not self._pending.done():
                return False
            self.wait()
        passed = time.perf_counter() - self._last
        return passed >= self.interval or (epoch_end and passed >= _GAP * self._cost)

    def save(self, take: Callable[[], Callable[[], object]]) -> None:
        """Begins one, after the one before is written.

        Args:
          take: copies what is to be saved, while the training waits, and returns what writes it.

        Raises:
          StorageError: the one before could not be written.
        """
        self.wait()
        began = time.perf_counter()
        write = take()
        self._pool = self._pool or ThreadPoolExecutor(max_workers=1)
        self._pending = self._pool.submit(self._timed, write)
        self._last = time.perf_counter()
        self._cost = self._last - began
        self.seconds += self._cost
        self.count += 1

    def _timed(self, write: Callable[[], object]) -> None:
        began = time.perf_counter()
        write()
        seconds = time.perf_counter() - began
        self._cost += seconds
        self.background += seconds

    def wait(self) -> None:
        """Waits until what was begun is written.

        Raises:
          StorageError: it could not be.
        """
        if self._pending:
            pending, self._pending = self._pending, None
            pending.result()
