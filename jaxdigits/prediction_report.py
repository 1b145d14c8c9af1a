"""Pictures being read, told on the terminal: a line or a JSON object each, a bar for many, a strip.

Answers go to standard output. Everything else goes to standard error: one line for each picture that
cannot be read, and for many pictures a progress bar, if that is a terminal.
"""

import collections
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jaxdigits.errors import DataError, in_one_line, printable
from jaxdigits.recognizer import Prediction, Show
from jaxdigits.sources import sources
from jaxdigits.strip import Row, save_strip

__all__ = ["PredictionReport"]

_MANY = 100  # pictures: fewer are read before a bar could be looked at
_ROWS = 50  # pictures: as many fit into a strip that one still opens


class PredictionReport:
    """Takes what `Recognizer.predict_iter` gives and shows it. Use it as a context manager.

    Args:
      pictures: the sources, as they were given to the command.
      as_json: print a JSON object for each picture.
      strip: the PNG file to draw the steps of the first pictures into.
      console: where bar and errors go; by default standard error.
    """

    def __init__(
        self,
        pictures: Sequence[str],
        *,
        as_json: bool = False,
        strip: str | os.PathLike[str] | None = None,
        console: Console | None = None,
    ):
        self.errors = 0
        self._json, self._strip = as_json, strip
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._width = self._total = 0
        for source in sources(list(pictures)):
            self._width, self._total = max(self._width, len(printable(source.name))), self._total + 1
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("pictures"), TimeRemainingColumn())
        hidden = self._total < _MANY or not self._console.is_terminal
        self._progress = Progress(*columns, console=self._console, transient=True, disable=hidden)
        self._task = self._progress.add_task("", total=self._total)
        self._steps: collections.deque[Row] = collections.deque()  # of pictures without an answer yet
        self._rows: list[Row] = []

    def __enter__(self) -> "PredictionReport":
        self._muted = _mute_libraries()
        self._muted.__enter__()
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        self._progress.stop()
        self._muted.__exit__(None, None, None)
        if self._strip is not None and kind is None:
            save_strip(self._strip, self._rows)
            if self._total > _ROWS:
                self._say(f"{self._strip} shows the first {_ROWS} of {self._total} pictures")

    @property
    def show(self) -> Show | None:
        """What takes the steps of a picture, if there is to be a strip."""
        return None if self._strip is None else self._on_steps

    def _on_steps(self, name: str, steps: Mapping[str, np.ndarray]) -> None:
        if len(self._rows) + len(self._steps) < _ROWS:
            self._steps.append((name, steps))

    def on_error(self, error: DataError) -> None:
        """A line for a picture that cannot be read."""
        self.errors += 1
        self._say(str(error))
        self._progress.advance(self._task)

    def on_prediction(self, prediction: Prediction) -> None:
        """A line for a picture that was read."""
        if prediction.note:
            self._say(f"{prediction.source}: {prediction.note}")
        if self._steps:  # answers come in the order of the pictures
            name, steps = self._steps.popleft()
            self._rows.append((f"{name}  {self._answer(prediction)}", steps))
        if self._json:
            print(json.dumps(self._fields(prediction)))
        else:
            print(f"{printable(prediction.source):<{self._width}}  {self._answer(prediction)}")
        self._progress.advance(self._task)

    def _answer(self, prediction: Prediction) -> str:
        return "blank" if prediction.blank else f"{prediction.name}  {prediction.probability:.2%}"

    def _fields(self, prediction: Prediction) -> dict[str, object]:
        return {
            "source": prediction.source,
            "digit": prediction.digit,
            "probability": prediction.probability,
            "probabilities": prediction.probabilities.tolist(),
            "blank": prediction.blank,
        }

    def _say(self, line: str) -> None:
        """A line on standard error, above the bar."""
        sys.stdout.flush()
        self._console.print(f"jaxdigits: {in_one_line(line)}", markup=False, emoji=False)


@contextlib.contextmanager
def _mute_libraries() -> Iterator[None]:
    """Keeps what libraries in C write to standard error away from it, as libtiff of a damaged file.

    What Python writes there still arrives, by a descriptor of its own.
    """
    stderr = sys.stderr
    try:
        kept = os.dup(stderr.fileno())
    except (AttributeError, OSError, ValueError):  # there is none, or it is no file
        yield
        return
    with os.fdopen(kept, "w", buffering=1, encoding=stderr.encoding, errors="backslashreplace") as own:
        stderr.flush()
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), stderr.fileno())
        sys.stderr = own
        try:
            yield
        finally:
            own.flush()
            os.dup2(kept, stderr.fileno())
            sys.stderr = stderr
