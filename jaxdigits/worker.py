"""One picture made ready for the network, in this process or in a worker of its own.

Preparing a picture is many short NumPy calls, between which Python lets one thread run at a time: two
threads are no faster than one. Two processes are. They are plain subprocesses that are asked by a line of
JSON and answer by one, followed by the images; so nothing that is read can be executed, and no program that
uses this library has to guard its main module, as `multiprocessing` asks for.

    jaxdigits.worker < requests > answers
"""

import contextlib
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import IO

import numpy as np

from jaxdigits import child, image
from jaxdigits.errors import DataError
from jaxdigits.image import Invert, Raw
from jaxdigits.sources import Source, file_source, label

__all__ = ["Loaded", "Worker", "load_one", "main", "serve"]

# There is a worker for each core, so that it needs no threads of its own; and glibc, told so, keeps the
# memory of one picture for the next, instead of giving it back and having it cleared again.
_ALONE = {
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**28),  # bytes
    "MALLOC_TRIM_THRESHOLD_": str(2**28),  # bytes
}


@dataclasses.dataclass(frozen=True, eq=False)
class Loaded:
    """One picture in MNIST's form, or the reason why there is none.

    Attributes:
      name: of the picture.
      image: uint8 [28, 28], white on black; black where there is an error.
      blank: whether there is no ink in the picture.
      note: what a reader should know of how it was read; or "".
      stages: what became of it step by step, if that was asked for.
      error: why it cannot be read.
    """

    name: str
    image: np.ndarray
    blank: bool = False
    note: str = ""
    stages: dict[str, np.ndarray] | None = None
    error: DataError | None = None


def load_one(source: Source, invert: Invert, raw: Raw, stages: bool = False) -> Loaded:
    """Decodes and prepares one picture.

    Args:
      source: the picture.
      invert: as for `image.prepare`.
      raw: as for `image.prepare`.
      stages: keep what `image.stages` gives, for people to look at.
    """
    black = np.zeros((28, 28), np.uint8)
    try:
        picture = source.load()
    except DataError as error:
        return Loaded(source.name, black, error=error)
    try:
        if not stages:
            prepared = image.prepare(picture.pixels, invert=invert, raw=raw)
            return Loaded(source.name, prepared.image, prepared.blank, picture.note)
        steps = image.stages(picture.pixels, invert=invert, raw=raw)
    except DataError as error:
        return Loaded(source.name, black, error=DataError(f"{label(source.name)}: {error}"))
    return Loaded(source.name, steps["image"], not steps["image"].any(), picture.note, steps)


class Worker:
    """A process that prepares picture files."""

    def __init__(self):
        self._process = child.start("jaxdigits.worker", **_ALONE)

    def load(self, names: Sequence[str], invert: Invert, raw: Raw) -> list[Loaded]:
        """Prepares files, as `loader.load` does.

        Raises:
          OSError: the process has ended.
          ValueError: it has not answered as it should.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise OSError("there is no pipe")
        request = {"names": list(names), "invert": invert, "raw": raw}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        answers = json.loads(self._process.stdout.readline())
        size = 28 * 28 * len(names)
        content = self._process.stdout.read(size)
        if len(answers) != len(names) or len(content) != size:
            raise ValueError("the answer is cut short")
        images = np.frombuffer(content, np.uint8).reshape(-1, 28, 28).copy()
        return [
            Loaded(name, pixels, answer["blank"], answer["note"], error=_error(answer["error"]))
            for name, pixels, answer in zip(names, images, answers, strict=True)
        ]

    def close(self) -> None:
        """Ends the process."""
        child.end(self._process)


def _error(message: str | None) -> DataError | None:
    """An error that came as text."""
    return None if message is None else DataError(message)


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answers requests until there are no more."""
    for line in requests:
        request = json.loads(line)
        options = {"invert": request["invert"], "raw": request["raw"]}
        files = [load_one(file_source(name), **options) for name in request["names"]]
        about = [
            {"blank": one.blank, "note": one.note, "error": str(one.error) if one.error else None}
            for one in files
        ]
        answers.write(json.dumps(about).encode() + b"\n")
        answers.write(np.stack([one.image for one in files]).tobytes())
        answers.flush()


def main() -> None:
    """Answers requests on standard input, on standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks ends this, by closing the pipe
    with contextlib.suppress(BrokenPipeError):
        serve(sys.stdin.buffer, sys.stdout.buffer)
    os._exit(0)  # without flushing into a pipe that may be closed


if __name__ == "__main__":
    main()
