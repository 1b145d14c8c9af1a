"""A process that draws the figures of a run, and has imported matplotlib by the time there are any.

That import takes half a second, in which Python does nothing else. Begun beside the training, another
process is through with it long before the training is, on a core that would wait for the imports and the
compilation of this one. It is given one line of JSON, answers with one, and ends with the pipe: nothing that
it reads can be executed. Where it cannot be had, or was killed, this process draws.

    jaxdigits.plotter < request > answer
"""

import base64
import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import IO, Any

import numpy as np

from jaxdigits import child, plots
from jaxdigits.errors import StorageError
from jaxdigits.plots import Figures

__all__ = ["Plotter", "main", "serve"]

_PATIENCE = 30.0  # seconds for three figures, which take half a one; then this process draws them
_ARRAYS = ("confusion", "labels", "predictions", "certainty")


class Plotter:
    """Draws the figures of one run, in a process of its own, for as long as this is entered."""

    def __enter__(self) -> "Plotter":
        try:
            self._process = child.start("jaxdigits.plotter")
        except OSError:
            self._process = None
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if self._process:
            if kind:  # there is nothing to be drawn any more: it need not import to the end
                self._process.kill()
            child.end(self._process)

    def draw(self, folder: Path, figures: Figures) -> None:
        """Draws them into a folder, and waits until they lie there.

        Raises:
          StorageError: a file cannot be written.
        """
        try:
            error = self._ask(folder, figures)
        except (OSError, ValueError, TypeError, LookupError):  # it is not there any more
            plots.draw(folder, figures)
            return
        if error is not None:
            raise StorageError(error)

    def _ask(self, folder: Path, figures: Figures) -> str | None:
        """Has the process draw; the error that it reports, if there is one."""
        if not self._process or not self._process.stdin or not self._process.stdout:
            raise OSError("there is no process")
        line = json.dumps({"folder": os.fspath(folder.absolute()), "figures": _to_json(figures)})
        impatient = threading.Timer(_PATIENCE, self._process.kill)
        impatient.start()
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())["error"]
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
    """Answers one request, if one comes."""
    plots.warm_up()
    line = requests.readline()
    if not line:
        return
    request, error = json.loads(line), None
    try:
        plots.draw(Path(request["folder"]), _from_json(request["figures"]))
    except StorageError as failure:
        error = str(failure)
    answers.write(json.dumps({"error": error}).encode() + b"\n")
    answers.flush()


def main() -> None:
    """Answers a request on standard input, on standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks ends this, by closing the pipe
    with contextlib.suppress(AttributeError, OSError):  # Windows has no such thing
        os.nice(10)  # the training goes first
    with contextlib.suppress(BrokenPipeError):
        serve(sys.stdin.buffer, sys.stdout.buffer)
    os._exit(0)  # without flushing into a pipe that may be closed


if __name__ == "__main__":
    main()
