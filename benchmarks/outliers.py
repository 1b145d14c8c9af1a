"""How well a model tells that something is no digit: a score per image, on digits and on what is none.

Claim: for each kind of thing that is no digit, the area under the ROC curve of the score against MNIST's
test digits, the share that is refused by a threshold that refuses 1% of those digits, and the share that
the model refuses by itself, with the threshold that was chosen in training and for whatever other reason.
The images are those of `nondigits`, which are made for this measurement alone.

    python -m benchmarks.outliers [--model PATH] [--count N] [--out FILE.json]
"""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tyro
from jaxtyping import Float

from benchmarks import protocol
from benchmarks.flags import Count, Natural
from benchmarks.nondigits import KINDS
from jaxdigits.errors import DataError, JaxdigitsError, UsageError
from jaxdigits.rejection import fit_threshold
from jaxdigits.storage import write_json

if TYPE_CHECKING:
    from jaxdigits.recognizer import Recognizer

__all__ = ["KINDS", "auroc", "measure", "refused_at"]


def auroc(scores_in: Float[np.ndarray, " n"], scores_out: Float[np.ndarray, " m"]) -> float:
    """Area under the ROC curve: how often a digit scores above an outlier; a tie counts half.

    From 0 to 1; 0.5 is chance. The statistic of Mann and Whitney (1947), divided by n * m.

    Raises:
      UsageError: there are no scores on one side.
    """
    _some(scores_in, scores_out)
    ordered = np.sort(scores_in)
    below = np.searchsorted(ordered, scores_out, "left") + np.searchsorted(ordered, scores_out, "right")
    return float(1 - below.mean() / (2 * len(ordered)))


def refused_at(
    scores_in: Float[np.ndarray, " n"], scores_out: Float[np.ndarray, " m"], share: float = 0.01
) -> float:
    """The share of the outliers below a threshold that lies above at most `share` of the digits.

    Raises:
      UsageError: there are no scores on one side, or the share is not from 0 to below 1.
    """
    _some(scores_in, scores_out)
    return float(np.mean(scores_out < fit_threshold(scores_in, share)))


def _some(*scores: np.ndarray) -> None:
    if any(not len(part) for part in scores):
        raise UsageError("there are no scores to compare; expected at least one on either side")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Measures how well a model tells digits from what is none."""

    model: Path | None = None
    """A run folder or a model file; by default the packaged model."""
    count: Count = 1000
    """How many images of each kind."""
    seed: Natural = 0
    """Of all that is random in the images."""
    out: Path | None = None
    """The JSON file to write; by default one of this Python's version in benchmarks/results."""


def measure(
    reader: "Recognizer", count: int, seed: int, say: Callable[[str], Any]
) -> tuple[list[dict[str, Any]], float]:
    """How the scores of outliers compare with those of MNIST's test digits.

    Args:
      reader: the model.
      count: how many images of each kind.
      seed: of the images.
      say: is told which kind is left out, its images not being on this machine, and why.

    Returns:
      Per kind its `kind`, `n`, `auroc`, share `refused` where 1% of the digits are, share that the model
      refuses by itself, `refused_by_model`, and `median_score`; and the share of the digits that it refuses.

    Raises:
      UsageError: there would be no images, or the seed is negative.
    """
    from jaxdigits import dataset

    if count < 1 or seed < 0:
        raise UsageError(f"--count is {count}, --seed {seed}; expected at least 1 image and a seed from 0")
    digits = reader.predict_all(dataset.load("mnist").test.images, raw=True)
    runs: list[dict[str, Any]] = []
    for kind, make in KINDS.items():
        try:
            images = make(count, seed)
        except DataError as error:
            say(f"{kind} left out: {error}")
            continue
        found = reader.predict_all(images, raw=True)
        figures = {
            "auroc": auroc(digits.scores, found.scores),
            "refused": refused_at(digits.scores, found.scores),
            "refused_by_model": float(found.rejected.mean()),
            "median_score": float(np.median(found.scores)),
        }
        runs.append({"kind": kind, "n": len(images), **figures})
    return runs, float(digits.rejected.mean())


def main(arguments: Arguments) -> None:
    """Measures, prints and saves."""
    from rich.console import Console
    from rich.table import Table

    from jaxdigits import device, recognizer

    device.select("auto")
    device.enable_compilation_cache()
    console = Console(width=80)
    reader = recognizer.load(arguments.model)
    runs, digits_refused = measure(
        reader, arguments.count, arguments.seed, lambda line: console.print(line, soft_wrap=True)
    )
    means = {
        name: float(np.mean([run[name] for run in runs])) for name in ("auroc", "refused", "refused_by_model")
    }
    summary: dict[str, Any] = {
        "seed": arguments.seed,
        "model": "packaged" if arguments.model is None else arguments.model.resolve().name,
        "threshold": reader.model.threshold,
        **means,
        "digits_refused_by_model": digits_refused,
    }
    table = Table("no digits", "images", "AUROC", "refused, of digits 1%", "by the model", "median score")
    for run in runs:
        shares = (f"{run[name]:.2%}" for name in means)
        last = run is runs[-1]
        table.add_row(run["kind"], f"{run['n']:,}", *shares, f"{run['median_score']:.2f}", end_section=last)
    table.add_row("mean", "", *(f"{share:.2%}" for share in means.values()), "")
    table.add_row("digits", "", "", "", f"{digits_refused:.2%}", "")
    console.print(table)
    if arguments.out is None:
        print(protocol.save("outliers", runs, arguments.count, summary))
        return
    fields = {"benchmark": "outliers", "n": arguments.count, "environment": protocol.environment()}
    write_json(arguments.out, fields | {"summary": summary, "runs": runs})
    print(arguments.out)


if __name__ == "__main__":
    try:
        main(tyro.cli(Arguments))
    except JaxdigitsError as error:
        print(f"benchmarks.outliers: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
