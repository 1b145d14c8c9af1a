"""A training told on the terminal: a live line while it runs, a table at its end.

With rich on a terminal; plain lines, nothing redrawn, where the output is a file or a pipe.
"""

from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from jaxdigits.evaluate import wilson_interval
from jaxdigits.progress import Progress
from jaxdigits.training import TrainResult

__all__ = ["TrainReport"]

# What the system that this library replaces claims of itself: a Keras CNN of five layers.
_CLAIM = {"train_accuracy": "99.51%", "test_accuracy": "98.15%", "total": "about 60 s on a GPU"}


class TrainReport:
    """Takes the callbacks of `train` and shows them. Use it as a context manager.

    Args:
      epochs: how many epochs there are to be.
      console: where to write; by default standard output.
    """

    def __init__(self, epochs: int, *, console: Console | None = None):
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.epochs = epochs
        self._live = Live(console=self.console, transient=True, auto_refresh=False)

    def __enter__(self) -> "TrainReport":
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def say(self, line: str) -> None:
        """A line for people."""
        self.console.print(line, markup=False)

    def on_progress(self, progress: Progress) -> None:
        """Redraws the live line, on a terminal."""
        if not self.console.is_terminal:
            return
        if not self._live.is_started:
            self._live.start()
        line = _epoch_line(progress.epoch, self.epochs, progress.loss, progress.accuracy)
        line += f"  {progress.images_per_second:>8,.0f} images/s  {_duration(progress.seconds_left)} left"
        self._live.update(Text(line, style="dim", overflow="ellipsis", no_wrap=True), refresh=True)

    def on_epoch(self, metrics: dict[str, Any]) -> None:
        """Puts down the line of a finished epoch."""
        if self._live.is_started:
            self._live.update(Text(""), refresh=True)
        line = _epoch_line(metrics["epoch"], self.epochs, metrics["train_loss"], metrics["train_accuracy"])
        if "validation_accuracy" in metrics:
            line += f"  val {metrics['validation_accuracy']:7.2%}"
        line += f"  {metrics['images_per_second']:>8,.0f} images/s  {metrics['seconds']:.1f} s"
        self.console.print(line, markup=False)

    def finish(self, result: TrainResult) -> None:
        """The table at the end."""
        self._live.stop()
        summary, seconds = result.summary, result.summary["seconds"]
        low, high = wilson_interval(summary["test_correct"], summary["test_total"])
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
        table.add_column("")
        table.add_column("this run")
        same_task = summary["dataset"] == "mnist" and not summary["data_dir"] and not summary["smoke"]
        claim = _CLAIM if same_task else dict.fromkeys(_CLAIM, "")
        table.add_column("as claimed for the Keras CNN" if same_task else "")
        table.add_row("training accuracy", f"{summary['train_accuracy']:.2%}", claim["train_accuracy"])
        interval = f"{summary['test_accuracy']:.2%} ({100 * low:.2f} to {100 * high:.2f}%)"
        table.add_row("test accuracy (95%)", interval, claim["test_accuracy"])
        for name in ("startup", "data", "compile", "train", "evaluate", "save"):
            table.add_row(f"seconds: {name}", f"{seconds[name]:.2f}", "")
        table.add_row("seconds in all", f"{seconds['total']:.2f}", claim["total"])
        self.console.print()
        self.console.print(table)
        updates = f"{summary['steps']} update{'s' if summary['steps'] != 1 else ''}"
        if summary["ended"] == "time limit":
            self.say(f"\nStopped early, after {updates}: --max-seconds has passed.")
        elif summary["ended"] == "early stop":
            self.say(
                f"\nStopped early, after {updates}: no better validation since epoch {summary['best_epoch']}."
            )
        self.say(f"\nThe run lies in {result.run_dir}")


def _epoch_line(epoch: int, epochs: int, loss: float, accuracy: float) -> str:
    return f"epoch {epoch:>{len(str(epochs))}}/{epochs}  loss {loss:.4f}  train {accuracy:7.2%}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
