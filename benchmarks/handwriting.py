"""How well handwriting is read that is not as MNIST has it, and what is no digit refused.

Claim: the errors of three contestants on MNIST's test images, clean and under fifteen corruptions, on pages
of several digits, and on pictures of single ones redrawn with other pens, on other papers, in other light;
how far their probabilities can be believed on each; and what they refuse. The contestants are

    default    the packaged model, and this library's way from a picture to the network
    standard   a plain model (preset `standard`) with the same way of reading pictures
    naive      the plain model; a picture is made grey, inverted if its border is bright, squashed to 28x28

Images that are in MNIST's form go straight into the network, for `naive` after its inversion. It has no way
to find digits on a page, and is given their true boxes. `handwriting_report` makes tables and a plot.

    python -m benchmarks.handwriting [--model PATH] [--standard RUN] [--out FILE.json]
"""

import dataclasses
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tyro

from benchmarks import pages, protocol
from benchmarks.contestants import Answers, Contestant, figures, pooled, squashed
from benchmarks.corruptions import CORRUPTIONS, corrupt
from benchmarks.flags import Count, Natural
from benchmarks.handwriting_report import CONTESTANTS, Table, tables
from benchmarks.nondigits import KINDS as NON_DIGITS
from benchmarks.outliers import auroc, refused_at
from benchmarks.redrawn import KINDS as PICTURES
from benchmarks.redrawn import redraw
from jaxdigits.config import Preset
from jaxdigits.errors import DataError, JaxdigitsError, UsageError
from jaxdigits.storage import write_json

if TYPE_CHECKING:
    from jaxdigits.dataset import Split
    from jaxdigits.recognizer import Recognizer
    from tests.pages import Page

__all__ = ["Counts", "measure"]


@dataclasses.dataclass(frozen=True)
class Counts:
    """How much is measured, and the seed of all that is random in it."""

    clean: Count = 10_000
    """Test images, the first ones, as they are."""
    corrupted: Count = 2000
    """Test images, the first ones, under each corruption."""
    pages: Count = 200
    """Pages of several digits."""
    pictures: Count = 200
    """Pictures of each kind, of as many test digits drawn by lot."""
    non_digits: Count = 500
    """Images of each kind of what is no digit."""
    seed: Natural = 0
    """Decides everything that is drawn by lot."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Measures how well handwriting is read beyond MNIST."""

    model: Path | None = None
    """A run folder or a model file; by default the packaged model."""
    standard: Path | None = None
    """The plain model to compare with, likewise; by default one is trained."""
    train: Preset = "standard"
    """What to train if no plain model is given."""
    counts: tyro.conf.OmitArgPrefixes[Counts] = dataclasses.field(default_factory=Counts)
    """How much is measured."""
    out: Path | None = None
    """The JSON file to write; by default one of this Python's version in benchmarks/results."""


Run = dict[str, Any]
Say = Callable[[str], Any]


def measure(contestants: list[Contestant], test: "Split", counts: Counts, say: Say) -> list[Run]:
    """All figures of all contestants.

    Args:
      contestants: those that take part.
      test: the test split.
      counts: how much to measure.
      say: is told what is being measured, and what is left out.

    Returns:
      A record for each `topic` (clean, corruption, picture, page, no digit), `condition` and `contestant`,
      with `figures`, with `n` and `error` (pages), or with `n`, `auroc`, the share `refused` and the share
      `refused_at_1_percent` (no digits). Condition "all" has the figures of a topic's conditions together.

    Raises:
      UsageError: there are not so many test images, or nothing to measure.
    """
    images, labels = test.images[..., 0], test.labels
    values = dataclasses.asdict(counts)
    if min(value for name, value in values.items() if name != "seed") < 1 or counts.seed < 0:
        raise UsageError(f"cannot measure {values}; expected at least 1 of each and a seed from 0")
    if max(counts.clean, counts.corrupted, counts.pictures) > len(labels):
        raise UsageError(f"there are {len(labels):,} test images; expected no more to be asked for")
    say("test images")
    clean = {c.name: c.answers(images[: counts.clean]) for c in contestants}
    runs: list[Run] = [
        {"topic": "clean", "condition": "test images", "contestant": name}
        | figures(answers, labels[: counts.clean])
        for name, answers in clean.items()
    ]
    first = images[: counts.corrupted]
    corrupted = ((name, corrupt(name, first, counts.seed)) for name in CORRUPTIONS)
    runs += _of_digits(
        "corruption",
        (
            (name, labels[: len(made)], {c.name: c.answers(made) for c in contestants})
            for name, made in corrupted
        ),
        say,
    )
    runs += _of_digits("picture", _pictures(contestants, test, counts), say)
    say("pages")
    runs += _pages(contestants, test, counts)
    runs += _non_digits(contestants, clean, counts, say)
    return runs


def _of_digits(
    topic: str, conditions: Iterator[tuple[str, np.ndarray, dict[str, Answers]]], say: Say
) -> Iterator[Run]:
    """The figures of each condition, and of all of a topic: `conditions` have name, labels and answers."""
    every: dict[str, list[Answers]] = {}
    truth = []
    for condition, labels, answers in conditions:
        say(f"{topic} {condition}")
        truth.append(labels)
        for name, found in answers.items():
            every.setdefault(name, []).append(found)
            yield {"topic": topic, "condition": condition, "contestant": name} | figures(found, labels)
    for name, parts in every.items():
        all_told = figures(pooled(parts), np.concatenate(truth))
        yield {"topic": topic, "condition": "all", "contestant": name} | all_told


def _pictures(
    contestants: list[Contestant], test: "Split", counts: Counts
) -> Iterator[tuple[str, np.ndarray, dict[str, Answers]]]:
    """Each kind of redrawn pictures: its name, the labels, and the answers of each contestant."""
    from jaxdigits import loader

    for place, kind in enumerate(PICTURES):
        lot = np.random.default_rng([counts.seed, place])
        chosen = lot.permutation(len(test.labels))[: counts.pictures]
        naive: list[np.ndarray] = []

        def passing(kind: str = kind, chosen: np.ndarray = chosen, naive: list = naive) -> Iterator[Any]:
            for picture in redraw(kind, test.images[chosen, :, :, 0], counts.seed):
                naive.append(squashed(picture))
                yield picture

        prepared = np.stack([one.image for one in loader.load(passing())])
        forms = {True: np.stack(naive), False: prepared}
        yield kind, test.labels[chosen], {c.name: c.answers(forms[c.naive]) for c in contestants}


def _pages(contestants: list[Contestant], test: "Split", counts: Counts) -> Iterator[Run]:
    """The errors of each contestant on composed pages: of digits, and of numbers of five."""
    from jaxdigits.reading import read
    from tests.pages import make_page

    found: dict[str, list[Run]] = {c.name: [] for c in contestants}
    lot = np.random.default_rng(counts.seed)
    for _ in range(counts.pages):
        page = make_page(test.images, test.labels, lot)
        for contestant in contestants:
            if contestant.naive:
                text = _boxes_read(page, contestant)
            else:
                text = read(page.picture, contestant.reader).text
            found[contestant.name].append(pages.score(page, text, 1.0))
    for name, scored in found.items():
        wrong = {
            "digits": [(min(one["edits"], one["digits"]), one["digits"]) for one in scored],
            "five-digit numbers": [(one["fives"] - one["fives_right"], one["fives"]) for one in scored],
        }
        for kind, each in wrong.items():
            errors, n = map(sum, zip(*each, strict=True))
            condition = {"topic": "page", "condition": kind, "contestant": name}
            yield condition | {"n": n, "error": errors / max(n, 1)}


def _boxes_read(page: "Page", contestant: Contestant) -> str:
    """What naive resizing reads in a page's true boxes, with a fifth of the longer side around each."""
    height, width = page.picture.shape[:2]
    cut = []
    for left, top, right, bottom in page.boxes:
        margin = round(0.2 * max(right - left, bottom - top))
        rows, columns = (max(0, top - margin), bottom + margin), (max(0, left - margin), right + margin)
        cut.append(
            squashed(page.picture[rows[0] : min(height, rows[1]), columns[0] : min(width, columns[1])])
        )
    digits = iter(map(str, contestant.answers(np.stack(cut)).digits))
    return "\n".join("".join(next(digits) for _ in line) for line in page.lines)


def _non_digits(
    contestants: list[Contestant], clean: dict[str, Answers], counts: Counts, say: Say
) -> Iterator[Run]:
    """What each contestant makes of images of no digit, beside its answers to the clean test images."""
    for kind, make in NON_DIGITS.items():
        say(f"no digit {kind}")
        try:
            images = make(counts.non_digits, counts.seed)[..., 0]
        except DataError as error:
            say(f"{kind} left out: {error}")
            continue
        for contestant in contestants:
            found, inside = contestant.answers(images), clean[contestant.name].scores
            yield {
                "topic": "no digit",
                "condition": kind,
                "contestant": contestant.name,
                "n": len(images),
                "auroc": auroc(inside, found.scores),
                "refused_at_1_percent": refused_at(inside, found.scores),
                "refused": float(found.refused.mean()),
            }


def _plain(arguments: Arguments, say: Say) -> "Recognizer":
    """The plain model: the one that is given, or one that is trained now."""
    from jaxdigits.recognizer import Recognizer, load
    from jaxdigits.training import train

    if arguments.standard is not None:
        return load(arguments.standard)
    say(f"training a plain model, preset {arguments.train}")
    with tempfile.TemporaryDirectory() as folder:
        # Images are held out in any case, for a temperature and a threshold to be fitted on.
        return Recognizer(train(arguments.train, run_dir=str(Path(folder) / "run"), validation=5000).model)


def _about(reader: "Recognizer") -> Run:
    """Which model it is."""
    model = reader.model
    about = {name: model.config.get(name) for name in ("preset", "seed", "epochs", "non_digits")}
    return about | {"threshold": model.threshold, "temperature": model.temperature, "views": model.views}


def _show(console: Any, table: Table) -> None:
    from rich import box
    from rich.table import Table as Grid

    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for place, head in enumerate(table.head):
        grid.add_column(head, justify="left" if place < table.names else "right")
    for row in table.rows:
        grid.add_row(*row)
    console.print(f"[bold]{table.title}[/]", grid, highlight=False)


def main(arguments: Arguments) -> None:
    """Measures, prints and saves."""
    from rich.console import Console

    from jaxdigits import dataset, device, recognizer

    device.select("auto")
    device.enable_compilation_cache()
    console = Console(width=80)

    with console.status("") as status:

        def say(line: str) -> None:
            if "left out" in line:
                console.print(line, soft_wrap=True)
            status.update(line)

        default, plain = recognizer.load(arguments.model), _plain(arguments, say)
        readers = dict(zip(CONTESTANTS, (default, plain, plain), strict=True))
        contestants = [Contestant(name, reader) for name, reader in readers.items()]
        runs = measure(contestants, dataset.load("mnist").test, arguments.counts, say)
    for table in tables(runs):
        _show(console, table)
    summary = {
        "counts": dataclasses.asdict(arguments.counts),
        "models": {name: _about(reader) for name, reader in readers.items()},
    }
    if arguments.out is None:
        print(protocol.save("handwriting", runs, arguments.counts.clean, summary))
        return
    fields = {"benchmark": "handwriting", "n": arguments.counts.clean}
    fields |= {"environment": protocol.environment(), "summary": summary, "runs": runs}
    write_json(arguments.out, fields)
    print(arguments.out)


if __name__ == "__main__":
    try:
        main(tyro.cli(Arguments))
    except JaxdigitsError as error:
        print(f"benchmarks.handwriting: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
