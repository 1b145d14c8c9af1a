"""Pictures being read, told on the terminal: a line, JSON object or CSV row each, a bar for many, a strip.

Answers go to standard output. Everything else goes to standard error: one line for each picture that
cannot be read, and for many pictures a progress bar, if that is a terminal.
"""

import collections
import contextlib
import csv
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jaxdigits.errors import DataError, in_one_line, printable
from jaxdigits.predictions import Prediction, row_names
from jaxdigits.recognizer import Show
from jaxdigits.sources import Source
from jaxdigits.strip import Row, save_strip

__all__ = ["PredictionReport"]

_MANY = 100  # pictures: fewer are read before a bar could be looked at
_ROWS = 50  # pictures: as many fit into a strip that one still opens


class PredictionReport:
    """Takes what `Recognizer.predict_iter` gives and shows it. Use it as a context manager.

    Args:
      pictures: the pictures, unopened.
      classes: how many classes the model has.
      form: what to print for each picture: a line of text, a JSON object, or a row of CSV (RFC 4180).
      top: list so many of the most probable classes, at least 1; None gives the first alone.
      strip: the PNG file to draw the steps of the first pictures into.
      console: where bar and errors go; by default standard error.
    """

    def __init__(
        self,
        pictures: Sequence[Source],
        classes: int,
        *,
        form: Literal["text", "json", "csv"] = "text",
        top: int | None = None,
        strip: str | os.PathLike[str] | None = None,
        console: Console | None = None,
    ):
        self.errors = 0
        self._form, self._top, self._strip = form, min(top or 0, classes), strip
        self._columns = row_names(classes)
        for place in range(1, self._top + 1):
            self._columns += f"top_{place}", f"top_{place}_probability"
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._width = max((len(printable(source.name)) for source in pictures), default=0)
        self._total = len(pictures)
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("pictures"), TimeRemainingColumn())
        hidden = self._total < _MANY or not self._console.is_terminal
        self._progress = Progress(*columns, console=self._console, transient=True, disable=hidden)
        self._task = self._progress.add_task("", total=self._total)
        self._steps: collections.deque[Row] = collections.deque()  # of pictures without an answer yet
        self._rows: list[Row] = []

    def __enter__(self) -> "PredictionReport":
        if self._form == "csv":
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(newline="")  # the lines' ends are the format's, not the system's
            csv.writer(sys.stdout).writerow(self._columns)
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
        if self._form == "text":
            print(f"{printable(prediction.source):<{self._width}}  {self._answer(prediction)}")
        elif self._form == "json":
            print(json.dumps(self._fields(prediction)))
        else:
            csv.writer(sys.stdout).writerow(self._row(prediction))
        self._progress.advance(self._task)

    def _answer(self, prediction: Prediction) -> str:
        """The answer as people read it; a refused one has a question mark in the digit's place."""
        guess = "  ".join(f"{name}  {share:.2%}" for _, name, share in _best(prediction, self._top or 1))
        if prediction.reason == "blank":
            return "?  blank"
        return f"?  {prediction.reason} ({guess})" if prediction.rejected else guess

    def _fields(self, prediction: Prediction) -> dict[str, object]:
        fields = prediction.to_dict()
        if self._top:
            names = ("digit", "name", "probability")
            fields["top"] = [dict(zip(names, one, strict=True)) for one in _best(prediction, self._top)]
        return fields

    def _row(self, prediction: Prediction) -> list[object]:
        top = (value for _, *values in _best(prediction, self._top) for value in values)
        return [*prediction.to_row().values(), *top]

    def _say(self, line: str) -> None:
        """A line on standard error, above the bar."""
        sys.stdout.flush()
        self._console.print(f"jaxdigits: {in_one_line(line)}", markup=False, emoji=False)


def _best(prediction: Prediction, count: int) -> list[tuple[int, str, float]]:
    """The most probable classes, their names and their probabilities."""
    names, probabilities = prediction.class_names, prediction.probabilities
    return [(index, names[index], float(probabilities[index])) for index in prediction.ranking[:count]]


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
