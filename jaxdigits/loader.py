"""Pictures of any source as images in MNIST's form: decoded and prepared on all cores, in order.

Between `worker`, which knows one picture at a time, and `recognizer`, which wants many. A few pictures are
prepared by threads; of many files, each thread has a worker process do the work. Any number streams through
in constant memory: so many pictures are under way as keep the threads busy, and no more. What is wrong with
one picture is part of the stream, not its end.
"""

import collections
import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from jaxdigits import child
from jaxdigits.image import Invert, Raw
from jaxdigits.sources import Pictures, Source, sources
from jaxdigits.worker import Loaded, Worker, load_one

__all__ = ["Loaded", "load"]

_MANY = 128  # files: with more to come, workers are worth their start of some tenths of a second
_PORTION = 16  # pictures that a thread takes at once: some 10 to 50 milliseconds of work


def load(
    pictures: Pictures,
    *,
    invert: Invert = "auto",
    raw: Raw = False,
    stages: bool = False,
    threads: int | None = None,
) -> Iterator[Loaded]:
    """Decodes and prepares pictures, in order.

    Args:
      pictures: as for `sources.sources`.
      invert: as for `image.prepare`.
      raw: as for `image.prepare`.
      stages: keep what `image.stages` gives, for people to look at.
      threads: how many work side by side; by default one for each core.

    Yields:
      Each picture, or its error.

    Raises:
      DataError: there is nothing in the list.
    """

    def here(portion: tuple[Source, ...]) -> list[Loaded]:
        return [load_one(source, invert, raw, stages) for source in portion]

    waiting = sources(pictures)
    head = tuple(itertools.islice(waiting, 2))
    if len(head) < 2:  # a single picture is not worth a thread
        yield from here(head)
        return
    threads = threads or child.cores()
    under_way: collections.deque[Future[list[Loaded]]] = collections.deque()
    with _Workers() as workers, ThreadPoolExecutor(threads, thread_name_prefix="jaxdigits") as pool:

        def elsewhere(portion: tuple[Source, ...]) -> list[Loaded]:
            return workers.load(portion, invert, raw) or here(portion)

        files = 0
        try:
            for portion in _portions(itertools.chain(head, waiting), _PORTION):
                files += len(portion) if all(source.is_file for source in portion) else 0
                far = files > _MANY and threads > 1 and not stages and portion[-1].is_file
                under_way.append(pool.submit(elsewhere if far else here, portion))
                if len(under_way) > 2 * threads:
                    yield from under_way.popleft().result()
            while under_way:
                yield from under_way.popleft().result()
        finally:  # whoever stops listening waits for what has begun, not for the rest
            for future in under_way:
                future.cancel()


class _Workers:
    """A worker for each thread that asks for one, for as long as this lasts."""

    def __init__(self):
        self._own = threading.local()
        self._all: list[Worker] = []

    def __enter__(self) -> "_Workers":
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._all:
            worker.close()

    def load(self, portion: tuple[Source, ...], invert: Invert, raw: Raw) -> list[Loaded] | None:
        """Prepares picture files in the worker of this thread; None where there is no worker to do it."""
        if not all(source.is_file for source in portion) or getattr(self._own, "broken", False):
            return None
        try:
            if not hasattr(self._own, "worker"):
                self._own.worker = Worker()
                self._all.append(self._own.worker)
            return self._own.worker.load([source.name for source in portion], invert, raw)
        except (OSError, ValueError):  # it cannot be started, or was killed: all goes on here
            self._own.broken = True
            return None


def _portions(waiting: Iterator[Source], size: int) -> Iterator[tuple[Source, ...]]:
    """Several at a time, the last ones perhaps fewer."""
    while portion := tuple(itertools.islice(waiting, size)):
        yield portion
