"""A process that draws the figures of a run, and has imported matplotlib by the time there are any.

That import takes half a second, in which Python does nothing else. Another process is through with it long
before the training is; and begun as early as with `ahead`, on a core that would be idle while this process
imports its own libraries. It has its turn like any other process: figures are drawn while the last splits
are evaluated, and at a lower priority most of that would be waited for in the end. It is given lines of JSON,
answers each with one, and ends with the pipe: nothing that it reads can be executed. Where it cannot be had,
or was killed, this process draws.

    jaxdigits.plotter < requests > answers
"""

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from jaxdigits import child, plots
from jaxdigits.errors import StorageError
from jaxdigits.plots import FigureName

__all__ = ["Plotter", "ahead", "main", "serve"]

_PATIENCE = 30.0  # seconds for three figures, which take half a one; then this process draws them

_ahead: "list[subprocess.Popen[bytes]]" = []  # started ahead, for whoever draws next


@contextlib.contextmanager
def ahead() -> Iterator[None]:
    """Starts the process of the next `Plotter` now: it imports what it needs while its user does the same.

    If there is no next one by the end, the process is ended.
    """
    with contextlib.suppress(OSError):
        _ahead.append(child.start("jaxdigits.plotter"))
    try:
        yield
    finally:
        while _ahead:
            _ahead[-1].kill()
            child.end(_ahead.pop())


class Plotter:
    """Draws the figures of one run, in a process of its own, for as long as this is entered."""

    def __enter__(self) -> "Plotter":
        try:
            self._process = _ahead.pop() if _ahead else child.start("jaxdigits.plotter")
        except OSError:
            self._process = None
        self._asked: list[tuple[Path, FigureName, tuple[Any, ...]]] = []
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if self._process:
            if kind:  # there is nothing to be drawn any more: it need not import to the end
                self._process.kill()
            child.end(self._process)

    def draw(self, folder: Path, figure: FigureName, *values: Any) -> None:
        """Has a figure drawn into a folder, beside what is done meanwhile; values as for `plots.draw`."""
        self._asked.append((folder, figure, values))
        if self._process and self._process.stdin:
            request = [os.fspath(folder.absolute()), figure, *map(_to_json, values)]
            with contextlib.suppress(OSError):  # it is not there any more: `wait` finds that out
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                self._process.stdin.flush()

    def wait(self) -> None:
        """Waits until all figures lie there.

        Raises:
          StorageError: a file cannot be written.
        """
        asked, self._asked = self._asked, []
        try:
            errors = self._answers(len(asked))
        except (OSError, ValueError):  # it was killed, or is too slow
            for folder, figure, values in asked:
                plots.draw(folder, figure, *values)
            return
        for error in errors:
            if error is not None:
                raise StorageError(error)

    def _answers(self, count: int) -> list[str | None]:
        """What the process reports of so many requests: an error, or none."""
        if not self._process or not self._process.stdout:
            raise OSError("there is no process")
        impatient = threading.Timer(_PATIENCE, self._process.kill)
        impatient.start()
        try:
            return [json.loads(self._process.stdout.readline()) for _ in range(count)]
        finally:
            impatient.cancel()


def _to_json(value: Any) -> Any:
    """A value as one of JSON: an array as its dtype, its shape and, in base64, its bytes."""
    if not isinstance(value, np.ndarray):
        return value
    return {"array": [value.dtype.str, value.shape, base64.b64encode(value.tobytes()).decode()]}


def _from_json(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    dtype, shape, content = value["array"]
    return np.frombuffer(base64.b64decode(content), dtype).reshape(shape)


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answers requests until there are no more."""
    plots.warm_up()
    for line in requests:
        folder, figure, *values = json.loads(line)
        error = None
        try:
            plots.draw(Path(folder), figure, *map(_from_json, values))
        except StorageError as failure:
            error = str(failure)
        answers.write(json.dumps(error).encode() + b"\n")
        answers.flush()


def main() -> None:
    """Answers requests on standard input, on standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks ends this, by closing the pipe
    with contextlib.suppress(BrokenPipeError):
        serve(sys.stdin.buffer, sys.stdout.buffer)
    os._exit(0)  # without flushing into a pipe that may be closed


if __name__ == "__main__":
    main()
