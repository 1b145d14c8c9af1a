"""A process that draws the figures of a run, and has imported matplotlib by the time there are any.

That import takes half a second, in which Python does nothing else. Another process is through with it long
before the training is; and begun as early as with `ahead`, on a core that would be idle while this process
imports its own libraries. It is given lines of JSON, answers each with one, and ends with the pipe: nothing
that it reads can be executed. Where it cannot be had, or was killed, this process draws.

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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from jaxdigits import child, plots
from jaxdigits.errors import StorageError
from jaxdigits.plots import Figures

__all__ = ["Plotter", "ahead", "main", "serve"]

_PATIENCE = 30.0  # seconds for three figures, which take half a one; then this process draws them
_ARRAYS = ("confusion", "labels", "predictions", "certainty")


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
        self._history, self._asked = [], False
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if self._process:
            if kind:  # there is nothing to be drawn any more: it need not import to the end
                self._process.kill()
            child.end(self._process)

    def begin(self, folder: Path, history: Sequence[Mapping[str, float]]) -> None:
        """Has the course of a run drawn into a folder, if this can be done beside what is done meanwhile."""
        self._history, self._asked = history, False
        with contextlib.suppress(OSError):
            self._send({"folder": os.fspath(folder.absolute()), "history": history})
            self._asked = True

    def finish(self, folder: Path, figures: Figures) -> None:
        """Draws the rest, and waits until all lie there.

        Raises:
          StorageError: a file cannot be written.
        """
        try:
            self._send({"folder": os.fspath(folder.absolute()), "figures": _to_json(figures)})
            errors = self._answers(1 + self._asked)
        except (OSError, ValueError, TypeError, LookupError):  # it is not there any more
            self._asked, errors = False, []
            plots.draw_outcome(folder, figures)
        if not self._asked:
            plots.draw_course(folder, self._history)
        for error in errors:
            if error is not None:
                raise StorageError(error)

    def _send(self, request: dict[str, Any]) -> None:
        if not self._process or not self._process.stdin:
            raise OSError("there is no process")
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()

    def _answers(self, count: int) -> list[str | None]:
        """What the process reports of so many requests: an error, or none."""
        if not self._process or not self._process.stdout:
            raise OSError("there is no process")
        impatient = threading.Timer(_PATIENCE, self._process.kill)
        impatient.start()
        try:
            return [json.loads(self._process.stdout.readline())["error"] for _ in range(count)]
        finally:
            impatient.cancel()


def _to_json(figures: Figures) -> dict[str, Any]:
    """Figures as JSON values: pixels in base64, other arrays as lists."""
    values = {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in figures._asdict().items()
        if name != "images"
    }
    return values | {"images": base64.b64encode(figures.images.tobytes()).decode()}


def _from_json(values: dict[str, Any]) -> Figures:
    images = np.frombuffer(base64.b64decode(values.pop("images")), np.uint8).reshape(-1, 28, 28, 1)
    fields: dict[str, Any] = values | {name: np.array(values[name]) for name in _ARRAYS}
    return Figures(**fields, images=images)


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answers requests until there are no more."""
    plots.warm_up()
    for line in requests:
        request, error = json.loads(line), None
        try:
            if "history" in request:
                plots.draw_course(Path(request["folder"]), request["history"])
            else:
                plots.draw_outcome(Path(request["folder"]), _from_json(request["figures"]))
        except StorageError as failure:
            error = str(failure)
        answers.write(json.dumps({"error": error}).encode() + b"\n")
        answers.flush()


def main() -> None:
    """Answers requests on standard input, on standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks ends this, by closing the pipe
    with contextlib.suppress(AttributeError, OSError):  # Windows has no such thing
        os.nice(10)  # the training goes first
    with contextlib.suppress(BrokenPipeError):
        serve(sys.stdin.buffer, sys.stdout.buffer)
    os._exit(0)  # without flushing into a pipe that may be closed


if __name__ == "__main__":
    main()
