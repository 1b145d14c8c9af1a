"""From the result files to the tables of README.md and to the plot beside it.

    python -m benchmarks.report

Nothing in the tables is written by hand: what stands between two markers comes from `results/`.
"""

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.protocol import RESULTS
from jaxdigits.storage import atomic_write

README = Path(__file__).with_name("README.md")


def results(name: str) -> list[dict[str, Any]]:
    """The result files of a benchmark, one a Python version."""
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"{name}-python*.json"))]


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: dict[str, float], form: str = ".2f", factor: float = 1) -> str:
    """Mean, deviation and number of runs."""
    return f"{value['mean'] * factor:{form}} ± {value['sd'] * factor:{form}} (n={value['n']:.0f})"


def where(result: dict[str, Any]) -> str:
    """The Python and the JAX of a result."""
    versions = result["environment"]["versions"]
    return f"Python {versions['python']}, jax {versions['jax']}"


def limit() -> str:
    """How near the step is to the machine's rate, and its breakdown."""
    rows = []
    for result in results("limit"):
        for preset, summary in result["summary"].items():
            parts = summary["milliseconds"]
            times = [
                parts[name]["mean"] for name in ("forward", "forward and gradients", "without augmentation")
            ]
            whole = parts["whole step"]["mean"]
            steps = [times[0], times[1] - times[0], times[2] - times[1], whole - times[2]]
            rate = f"{summary['step_gflops']['mean']:.0f} of {summary['product_gflops']['mean']:.0f}"
            rows.append(
                [where(result), f"`{preset}`", rate, f"{summary['share']:.0%}", f"{whole:.2f}"]
                + [f"{max(0.0, step):.2f}" for step in steps]
            )
    head = ["", "preset", "GFLOP/s", "share", "step, ms", "forward", "gradients", "optimizer", "augmentation"]
    return table(head, rows)


def one_minute() -> str:
    """Whole trainings."""
    rows = []
    for preset in ("fast", "standard"):
        for result in results(f"one_minute-{preset}"):
            for caches in ("cold", "warm"):
                if caches in result["summary"]:
                    summary = result["summary"][caches]
                    seconds = summary["seconds"]
                    rest = seconds["total"]["mean"] - seconds["train"]["mean"] - seconds["evaluate"]["mean"]
                    rows.append(
                        [
                            where(result),
                            f"`{preset}`",
                            caches,
                            number(summary["test_accuracy"], ".2f", 100),
                            number(seconds["train"], ".1f"),
                            number(seconds["total"], ".1f"),
                            f"{rest:.1f}",
                            f"{summary['peak_memory_mib']['mean']:.0f}",
                        ]
                    )
    return table(["", "preset", "caches", "test accuracy, %", "train, s", "total, s", "rest, s", "MiB"], rows)


def time_to_accuracy() -> str:
    """The contestants side by side."""
    rows = []
    for result in results("time_to_accuracy"):
        for name, summary in result["summary"]["contestants"].items():
            rows.append(
                [
                    where(result),
                    name,
                    number(summary["test_accuracy"], ".2f", 100),
                    number(summary["train_seconds"]),
                    number(summary["wall_seconds"], ".1f"),
                    f"{summary['ratio_of_training']:.2f}",
                ]
            )
    return table(["", "", "test accuracy, %", "training, s", "process, s", "training, ratio to ours"], rows)


def hardware() -> str:
    """The machine of the newest result."""
    newest = max(
        (json.loads(path.read_text()) for path in RESULTS.glob("*.json")),
        key=lambda r: r["environment"]["date"],
    )
    place = newest["environment"]
    return f"{place['processor']}, {place['cores']} cores, {place['memory_gib']} GiB, no GPU."


def plot(path: Path) -> None:
    """Accuracy against seconds of training, a point a run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for marker, result in zip("os^", results("time_to_accuracy"), strict=False):
        python = result["environment"]["versions"]["python"].rpartition(".")[0]
        for colour, name in zip(
            ("#0072B2", "#D55E00", "#009E73"), result["summary"]["contestants"], strict=False
        ):
            runs = [run for run in result["runs"] if run["contestant"] == name]
            axes.plot(
                [run["train_seconds"][-1] for run in runs],
                [100 * run["test_accuracy"][-1] for run in runs],
                marker,
                color=colour,
                alpha=0.7,
                label=f"{name}, Python {python}",
            )
    axes.axhline(98.15, color="grey", linewidth=1, linestyle="--")
    axes.annotate("98.15%: the Keras CNN's claim, after about a minute on a GPU", (0.02, 98.17), color="grey",
                  xycoords=("axes fraction", "data"), fontsize=9)  # fmt: skip
    axes.set(xlabel="seconds of training, two CPU cores", ylabel="test accuracy, %", xlim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="center right")
    with atomic_write(path) as file:
        figure.savefig(file, format="png")


def main() -> None:
    """Writes the tables into README.md, and the plot."""
    text = README.read_text("utf-8")
    for make in (hardware, limit, one_minute, time_to_accuracy):
        pattern = rf"(<!-- {make.__name__} -->\n).*?(<!-- end -->)"
        content = make()
        text = re.sub(pattern, lambda m, content=content: f"{m[1]}{content}\n{m[2]}", text, flags=re.S)
    with atomic_write(README) as file:
        file.write(text.encode())
    if results("time_to_accuracy"):
        plot(RESULTS / "time_to_accuracy.png")


if __name__ == "__main__":
    main()
