"""The plots of README.md."""

from typing import Any

import numpy as np

from benchmarks import handwriting_report
from benchmarks.protocol import RESULTS
from benchmarks.speed_tables import steps
from benchmarks.tables import machine, results
from jaxdigits.storage import atomic_write


def _figure(width: float, height: float) -> Any:
    """An empty figure, in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, name: str) -> None:
    with atomic_write(RESULTS / name) as file:
        figure.savefig(file, format="png", metadata={"Software": None})


# Okabe and Ito 2008, with grey for their yellow, which white paper drowns.
_COLOURS = ("#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#999999", "#000000")


def plot_accuracy() -> None:
    """Error against seconds of training, a point a run or, of peers with several epochs, a line."""
    measured = results("time_to_accuracy-*")
    machines = sorted({machine(result) for result in measured})
    figure = _figure(3 + 3 * len(machines), 5.2)
    panels = figure.subplots(1, len(machines), sharex=True, sharey=True)
    by_machine = dict(zip(machines, np.atleast_1d(panels), strict=True))
    names = {name for result in measured for name in result["summary"]["contestants"]}
    ours_first = sorted(names, key=lambda name: (not name.startswith("jaxdigits"), name))
    colours = {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(ours_first)}
    versions: dict[str, str] = {}
    for result in measured:
        python = result["environment"]["versions"]["python"].rpartition(".")[0]
        marker = versions.setdefault(python, "os^"[len(versions) % 3])
        axes = by_machine[machine(result)]
        for run in result["runs"]:
            errors = [100 * (1 - accuracy) for accuracy in run["test_accuracy"]]
            axes.plot(run["train_seconds"], errors, marker=marker, color=colours[run["contestant"]],
                      alpha=0.6, markersize=4, linewidth=1)  # fmt: skip
    for name, axes in by_machine.items():
        axes.axhline(1.85, color="grey", linewidth=1, linestyle="--")
        axes.set(title=name, xlabel="seconds of training", xscale="log", yscale="log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter("")
        axes.set_yticks([0.5, 1, 2, 4])
        axes.grid(alpha=0.3, which="both")
    first = by_machine[machines[0]]
    first.set_ylabel("test error, %")
    for name, colour in colours.items():
        first.plot([], [], color=colour, linewidth=4, label=name)
    for python, marker in versions.items():
        first.plot([], [], color="grey", marker=marker, linestyle="", label=f"Python {python}")
    first.plot([], [], color="grey", linestyle="--", label="98.15%, the Keras CNN's claim")
    figure.legend(frameon=False, fontsize=9, ncols=5, loc="outside upper center")
    _save(figure, "time_to_accuracy.png")


def plot_limit() -> None:
    """Where the time of an update goes, a bar a preset, and what products alone would take.

    GPUs, which need a fiftieth of it, have a panel of their own.
    """
    on_gpu = [result for result in results("limit") if result["environment"].get("accelerators")]
    on_cpu = [result for result in results("limit") if result not in on_gpu]
    panels = [panel for panel in ((on_cpu, "milliseconds", 1), (on_gpu, "microseconds", 1000)) if panel[0]]
    heights = [sum(len(result["summary"]) for result in measured) for measured, _, _ in panels]
    figure = _figure(8.5, 1 + 0.45 * sum(heights) + 0.4 * len(panels))
    axes = np.atleast_1d(figure.subplots(len(panels), height_ratios=heights))
    for place, (measured, unit, factor) in enumerate(panels):
        _bars(axes[place], measured, factor, named=place == 0)
        axes[place].set_xlabel(f"{unit} an update")
    figure.legend(frameon=False, fontsize=9, ncols=5, loc="outside upper center")
    _save(figure, "limit.png")


def _bars(axes: Any, measured: list[dict[str, Any]], factor: float, *, named: bool) -> None:
    """The breakdowns of some results, in milliseconds times a factor; `named` ones are in the legend."""
    names, labels = ("forward", "gradients", "optimizer", "augmentation"), []
    for result in measured:
        for preset, summary in result["summary"].items():
            python = result["environment"]["versions"]["python"].rpartition(".")[0]
            labels.append(f"{preset}, {summary['batch_size']} images\n{machine(result)}, Python {python}")
            left, place = 0.0, len(labels) - 1
            shown = named and place == 0
            for colour, name, value in zip(_COLOURS[:1] + _COLOURS[2:], names, steps(summary), strict=False):
                width = factor * max(0.0, value)
                axes.barh(place, width, left=left, color=colour, label=name if shown else None)
                left += factor * value
            ideal = factor * summary["share"] * summary["milliseconds"]["whole step"]["mean"]
            axes.plot([ideal, ideal], [place - 0.42, place + 0.42], color="black", linewidth=2,
                      label="its products at the float32 rate" if shown else None)  # fmt: skip
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)


def plot_handwriting() -> None:
    """The newest Python's figures of the handwriting benchmark."""
    for result in results("handwriting")[-1:]:
        handwriting_report.plot(result["runs"], RESULTS / "handwriting.png")
