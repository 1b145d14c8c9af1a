"""How well pages of several digits are read: `jaxdigits.read` on pages composed from MNIST's test digits.

Claim: the share of digits and of five-digit numbers that are right, with 95% intervals. The pages are those
of `tests/pages.py`: postal codes, amounts and columns of figures of random size (20 to 120 pixels), spacing,
slant, ink, paper and light, 8% of neighbours touching. A digit is wrong for each insertion, deletion and
substitution (Levenshtein distance) that turns the text that was read into the truth, line breaks included.
A five-digit number is right if a line reads exactly so. Whatever `read` was tuned on was composed from
training digits.

    python -m benchmarks.pages [--pages 500] [--split test] [--model RUN] [--out FILE.json]
"""

import dataclasses
import time
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from benchmarks import protocol
from benchmarks.flags import Count, Natural
from jaxdigits import device
from jaxdigits.dataset import Split
from jaxdigits.evaluate import wilson_interval
from jaxdigits.presets import resolve
from jaxdigits.reading import read
from jaxdigits.recognizer import load
from jaxdigits.splits import load_splits
from jaxdigits.storage import write_json
from tests.pages import Page, make_page


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Measures the reading of composed pages."""

    pages: Count = 500
    """How many pages to read."""
    seed: Natural = 0
    """Decides the pages."""
    split: Literal["test", "held-out"] = "test"
    """Where the digits are from: the test split; or the training images that validation holds out, for
    trying things."""
    model: str | None = None
    """A run folder or a model file; by default the model that comes with the package."""
    out: Path | None = None
    """Where to write the result; by default among the results of all benchmarks."""


def digits_of(split: str) -> Split:
    """The images to compose pages from."""
    splits = load_splits(resolve("robust", non_digits=0), print)  # the packaged model's; no others are made
    if split == "test":
        return splits.test
    assert splits.validation is not None  # noqa: S101 (the preset holds some out)
    return splits.validation


def edits(text: str, truth: str) -> int:
    """The least number of insertions, deletions and substitutions from one text to another."""
    row = list(range(len(truth) + 1))
    for i, character in enumerate(text, 1):
        above, row = row, [i]
        for j, wanted in enumerate(truth, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (character != wanted)))
    return row[-1]


def score(page: Page, text: str, seconds: float) -> dict[str, Any]:
    """What was right of one page."""
    codes = Counter(line for line in page.lines if len(line) == 5)
    right = codes & Counter(text.split("\n"))
    return {
        "truth": page.text,
        "text": text,
        "touching": page.touching,
        "digits": sum(map(len, page.lines)),
        "edits": edits(text, page.text),
        "fives": codes.total(),
        "fives_right": right.total(),
        "pixels": page.picture.shape[0] * page.picture.shape[1],
        "seconds": round(seconds, 5),
    }


def share(right: int, n: int) -> dict[str, Any]:
    """A share with its 95% interval."""
    return {"right": right, "n": n, "share": right / max(n, 1), "interval": wilson_interval(right, n)}


def summary_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of all pages, and of those without a touching pair."""
    figures: dict[str, Any] = {}
    for name, chosen in (("all", runs), ("apart", [run for run in runs if not run["touching"]])):
        digits, fives = sum(run["digits"] for run in chosen), sum(run["fives"] for run in chosen)
        wrong = sum(min(run["edits"], run["digits"]) for run in chosen)
        figures[name] = {
            "digits": share(digits - wrong, digits),
            "five_digit_numbers": share(sum(run["fives_right"] for run in chosen), fives),
        }
    figures["seconds_per_page"] = protocol.mean([run["seconds"] for run in runs])
    figures["digits_per_second"] = sum(run["digits"] for run in runs) / sum(run["seconds"] for run in runs)
    return figures


def main(arguments: Arguments) -> None:
    """Measures, prints and saves."""
    device.select("auto")
    device.enable_compilation_cache()
    recognizer = load(arguments.model)
    digits = digits_of(arguments.split)
    random = np.random.default_rng(arguments.seed)
    warm = make_page(digits.images, digits.labels, np.random.default_rng(2**32))
    read(warm.picture, recognizer)
    runs = []
    for _ in range(arguments.pages):
        page = make_page(digits.images, digits.labels, random)
        started = time.perf_counter()
        reading = read(page.picture, recognizer)
        runs.append(score(page, reading.text, time.perf_counter() - started))
    summary = summary_of(runs) | {
        "split": arguments.split,
        "seed": arguments.seed,
        "model": arguments.model or "packaged",
    }
    for name in ("all", "apart"):
        values = [
            f"{kind.replace('_', ' ')} {part['share']:.2%} of {part['n']}"
            for kind, part in summary[name].items()
        ]
        print(f"{'all pages' if name == 'all' else 'nothing touches'}: {', '.join(values)}")
    print(f"{1000 * summary['seconds_per_page']['mean']:.0f} ms a page", end=", ")
    print(f"{summary['digits_per_second']:.0f} digits a second")
    if arguments.out is None:
        print(protocol.save("pages", runs, arguments.pages, summary))
    else:
        content = {"benchmark": "pages", "n": arguments.pages, "environment": protocol.environment()}
        write_json(arguments.out, content | {"summary": summary, "runs": runs})
        print(arguments.out)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
