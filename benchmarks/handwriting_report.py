"""The figures of `handwriting` as tables, for the terminal and for README.md, and as a plot.

Everything comes from the runs of a result file. Measuring is left to `handwriting`, Markdown to `report`.
"""

from pathlib import Path
from typing import Any, NamedTuple

from jaxdigits.storage import atomic_write

__all__ = ["CONTESTANTS", "Table", "plot", "tables"]

CONTESTANTS = ("default", "standard", "naive")

Run = dict[str, Any]

_LOOKS = {  # colour, marker, and on which side of its line, for dots that would hide each other
    "default": ("#0072B2", "o", -1),
    "standard": ("#E69F00", "s", 0),
    "naive": ("#888888", "D", 1),
}
_LEGEND = {
    "default": "default: packaged model",
    "standard": "standard: plain model, same preparing",
    "naive": "naive: plain model, squashed pictures",
}
_TOPICS = {"clean": "test images", "corruption": "corrupted", "picture": "pictures"}


class Table(NamedTuple):
    """A table: its title, its head and its rows; the first `names` columns are words, the others figures."""

    title: str
    head: list[str]
    rows: list[list[str]]
    names: int = 1


class _Runs:
    """Runs by topic, condition and contestant."""

    def __init__(self, runs: list[Run]):
        self._found = {(run["topic"], run["condition"], run["contestant"]): run for run in runs}
        self.contestants = list(dict.fromkeys(run["contestant"] for run in runs))

    def conditions(self, topic: str) -> list[str]:
        """Those of a topic, without the one that sums them up."""
        return list(dict.fromkeys(c for t, c, _ in self._found if t == topic and c != "all"))

    def __call__(self, topic: str, condition: str, contestant: str) -> Run:
        return self._found[topic, condition, contestant]

    def each(self, topic: str, condition: str, figure: str) -> list[float]:
        """A figure of every contestant."""
        return [self(topic, condition, name)[figure] for name in self.contestants]

    def mean(self, topic: str, figure: str) -> list[float]:
        """The means of a figure over the conditions of a topic, of every contestant."""
        columns = [self.each(topic, condition, figure) for condition in self.conditions(topic)]
        return [sum(values) / len(values) for values in zip(*columns, strict=True)]


def tables(runs: list[Run]) -> list[Table]:
    """One table a topic, and one of what was set as a goal."""
    found = _Runs(runs)
    return [
        _plain(found),
        _errors(found, "corruption", "Error under MNIST-C's corruptions, %"),
        _errors(found, "picture", "Error on redrawn pictures of single digits, %"),
        _belief(found),
        *_refusals(found),
        _goals(found),
    ]


def _percent(values: list[float], form: str = ".2f") -> list[str]:
    return [f"{100 * value:{form}}" for value in values]


def _words(condition: str) -> str:
    return condition.replace("_", " ")


def _plain(found: _Runs) -> Table:
    rows = [["test images", *_percent(found.each("clean", "test images", "error"))]]
    rows += [
        [f"{kind} on pages", *_percent(found.each("page", kind, "error"))]
        for kind in found.conditions("page")
    ]
    return Table("Error on test images and on composed pages, %", ["", *found.contestants], rows)


def _errors(found: _Runs, topic: str, title: str) -> Table:
    rows = [
        [_words(condition), *_percent(found.each(topic, condition, "error"), ".1f")]
        for condition in found.conditions(topic)
    ]
    return Table(title, ["", *found.contestants], [*rows, ["mean", *_percent(found.mean(topic, "error"))]])


def _belief(found: _Runs) -> Table:
    """What is claimed and what is right; what is refused though it is a digit."""
    rows = []
    for topic, words in _TOPICS.items():
        condition = "all" if topic != "clean" else "test images"
        for name in found.contestants:
            run = found(topic, condition, name)
            shares = [1 - run["error"], run["probability"], run["calibration_error"]]
            rows.append([words, name, *_percent([*shares, run["refused"], run["error_of_rest"]])])
    head = ["", "", "right", "claimed", "calibration error", "refused", "rest wrong"]
    return Table("What probabilities and refusals are worth on digits, %", head, rows, names=2)


def _refusals(found: _Runs) -> list[Table]:
    """A table a figure."""
    kinds = {
        "refused_at_1_percent": "What is no digit: refused, if 1% of the test images are, %",
        "refused": "What is no digit: refused by the model's own threshold, %",
        "auroc": "What is no digit: area under the ROC curve, against the test images, %",
    }
    made = []
    for figure, title in kinds.items():
        form = ".2f" if figure == "auroc" else ".1f"
        rows = [
            [condition, *_percent(found.each("no digit", condition, figure), form)]
            for condition in found.conditions("no digit")
        ]
        rows.append(["mean", *_percent(found.mean("no digit", figure), form)])
        made.append(Table(title, ["", *found.contestants], rows))
    return made


def _goals(found: _Runs) -> Table:
    """What was set as a goal for the default model."""
    ours = CONTESTANTS[0]
    clean = found("clean", "test images", ours)
    pages = {kind: 1 - found("page", kind, ours)["error"] for kind in found.conditions("page")}
    column = found.contestants.index(ours)
    refused = found.mean("no digit", "refused_at_1_percent")[column]
    goals = [
        ("test images right, %", 100 * (1 - clean["error"]), ">=", 99.5),
        ("mean error under the corruptions, %", 100 * found.mean("corruption", "error")[column], "<=", 3),
        ("digits on pages right, %", 100 * pages["digits"], ">=", 97),
        ("five-digit numbers on pages right, %", 100 * pages["five-digit numbers"], ">=", 90),
        ("calibration error on test images, %", 100 * clean["calibration_error"], "<=", 0.3),
        ("no digits refused, if 1% of the test images are, %", 100 * refused, ">=", 95),
        ("area under the ROC curve, %", 100 * found.mean("no digit", "auroc")[column], ">=", 99),
    ]
    rows = []
    for name, value, way, limit in goals:
        met = value >= limit if way == ">=" else value <= limit
        words = f"{'at least' if way == '>=' else 'at most'} {limit:g}"
        rows.append([name, words, f"{value:.2f}", "met" if met else "NOT met"])
    return Table("Goals of the default model", ["", "goal", "measured", ""], rows, names=1)


def plot(runs: list[Run], path: Path) -> None:
    """Draws the errors of all contestants, a line a condition, as dots; the scale stretches low ones out.

    Args:
      runs: of a result file.
      path: where the PNG shall lie.

    Raises:
      StorageError: it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = _Runs(runs)
    figure = Figure(figsize=(10.5, 9), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    tops, bottoms = figure.subplots(2, 2, height_ratios=(17, 10))
    _panel(tops[0], "Pictures of single digits, redrawn", _lines(found, "picture"))
    _panel(tops[1], "MNIST-C: fifteen corruptions", _lines(found, "corruption"))
    accepted = [
        (name, {who: 1 - share for who, share in shares.items()})
        for name, shares in _lines(found, "no digit", "refused_at_1_percent")
    ]
    _panel(bottoms[0], "No digits: accepted, if 1% of the digits are refused", accepted)
    plain = _lines(found, "clean") + _lines(found, "page")
    plain = [
        (name if name == "test images" else f"{name} on pages", x) for name, x in plain if name != "mean"
    ]
    _panel(bottoms[1], "As MNIST has them, and on pages", plain)
    handles, names = tops[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=3, handletextpad=0, frameon=False)
    for axes in bottoms:
        axes.set_xlabel("%, the less the better")
    with atomic_write(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})


def _lines(found: _Runs, topic: str, figure: str = "error") -> list[tuple[str, dict[str, float]]]:
    """Each condition's figures by contestant, the hardest for the default last; and their mean."""
    rows = [
        (_words(condition), found.each(topic, condition, figure)) for condition in found.conditions(topic)
    ]
    rows.append(("mean", found.mean(topic, figure)))
    return [(name, dict(zip(found.contestants, values, strict=True))) for name, values in rows]


def _panel(axes: Any, title: str, lines: list[tuple[str, dict[str, float]]]) -> None:
    """One group of conditions: shares from 0 to 1, of each contestant a dot a line."""
    apart = min(0.17, 0.018 * len(lines))
    for place, (name, shares) in enumerate(lines):
        percent, main = {who: 100 * share for who, share in shares.items()}, name == "mean"
        ends = [min(percent.values()), max(percent.values())]
        axes.plot(ends, [place] * 2, color="#DDDDDD", linewidth=3 if main else 1.2, zorder=1)
        for who, value in percent.items():
            colour, marker, side = _LOOKS[who]
            size, label = 7 if main else 5, _LEGEND[who] if place == 0 else None
            axes.plot(value, place + side * apart, marker, color=colour, markersize=size, label=label)
    axes.set_yticks(range(len(lines)), [name for name, _ in lines])
    for label, (name, _) in zip(axes.get_yticklabels(), lines, strict=True):
        label.set_fontweight("bold" if name == "mean" else "normal")
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.set_xscale("symlog", linthresh=1, linscale=0.5)
    axes.set_xlim(-0.15, 115)
    axes.set_xticks([0, 1, 3, 10, 30, 100], ["0", "1", "3", "10", "30", "100"])
    axes.minorticks_off()
    axes.grid(axis="x", alpha=0.4)
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
