"""From the result files to the tables of README.md and to the plot beside it.

    python -m benchmarks.report

Nothing in the tables is written by hand: what stands between two markers comes from `results/`.
"""

import itertools
import json
import re
from pathlib import Path
from typing import Any

from benchmarks import handwriting_report
from benchmarks.protocol import RESULTS
from jaxdigits.config import PRESETS
from jaxdigits.storage import atomic_write

README = Path(__file__).with_name("README.md")


def results(name: str) -> list[dict[str, Any]]:
    """The result files of a benchmark, one a Python version."""
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"{name}-python*.json"))]


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    if not rows:
        return "No result yet."
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
            whole = summary["milliseconds"]["whole step"]["mean"]
            rate = f"{summary['step_gflops']['mean']:.0f} of {summary['product_gflops']['mean']:.0f}"
            rows.append(
                [where(result), f"`{preset}`", rate, f"{summary['share']:.0%}", f"{whole:.2f}"]
                + [f"{step:.2f}" for step in _steps(summary)]
            )
    head = ["", "preset", "GFLOP/s", "share", "step, ms", "forward", "gradients", "optimizer", "augmentation"]
    return table(head, rows) + "\n\n" + _layers()


def _layers() -> str:
    """Each layer alone, and at which rate its products run."""
    rows = []
    for result in results("limit"):
        for preset, summary in result["summary"].items():
            for name, (forward, both) in summary.get("layer_milliseconds", {}).items():
                million = summary["layers"][name] * PRESETS[preset].batch_size / 1e6
                gradients = max(0.0, both["mean"] - forward["mean"])
                rows.append(
                    [
                        where(result),
                        f"`{preset}`",
                        name,
                        f"{million:.1f}",
                        f"{forward['mean']:.3f}",
                        f"{gradients:.3f}",
                        f"{million / forward['mean']:.0f}",
                    ]
                )
    head = ["", "preset", "layer alone", "MFLOP forward", "forward, ms", "gradients, ms", "GFLOP/s forward"]
    return table(head, rows)


def _steps(summary: dict[str, Any]) -> list[float]:
    """Milliseconds of forward, gradients, optimizer and augmentation: differences of nested parts."""
    parts = ("forward", "forward and gradients", "without augmentation", "whole step")
    times = [0.0, *(summary["milliseconds"][part]["mean"] for part in parts)]
    return [max(0.0, late - early) for early, late in itertools.pairwise(times)]


def one_minute() -> str:
    """Whole trainings."""
    rows = []
    for preset in ("fast", "standard", "large_batch"):
        for result in results(f"one_minute-{preset}"):
            devices = result["summary"].get("devices", 1)
            for caches in ("cold", "warm"):
                if caches in result["summary"]:
                    summary = result["summary"][caches]
                    seconds = summary["seconds"]
                    rest = seconds["total"]["mean"] - seconds["train"]["mean"] - seconds["evaluate"]["mean"]
                    rows.append(
                        [
                            where(result),
                            f"`{preset}`" + (f", {devices} simulated devices" if devices > 1 else ""),
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
    """The contestants side by side: whole trainings, and who reached which accuracy when."""
    rows, reached = [], []
    for result in results("time_to_accuracy-*"):
        for name, summary in result["summary"]["contestants"].items():
            ratio = summary["ratio_of_training"]
            rows.append(
                [
                    where(result),
                    name,
                    number(summary["test_accuracy"], ".2f", 100),
                    number(summary["train_seconds"]),
                    number(summary["wall_seconds"], ".1f"),
                    "" if ratio is None else f"{ratio:.2f}",
                ]
            )
        for accuracy, found in result["summary"]["accuracies"].items():
            for name, peer in found["peers"].items():
                line = [where(result), accuracy, found["ours"], name, f"{peer['reached']} of {peer['of']}"]
                if peer["reached"]:
                    line += [number(peer["train_seconds"], ".1f")]
                    line += [f"{peer['ratio_of_training']:.1f}", f"{peer['ratio_of_process']:.1f}"]
                else:
                    line += ["", "", ""]
                reached.append(line)
    head = ["", "", "test accuracy, %", "training, s", "process, s", "training, ratio to `fast`"]
    whole = table(head, rows)
    head = ["", "to", "ours", "peer", "reached by", "training, s", "ratio of training", "ratio of process"]
    return f"{whole}\n\n{table(head, reached)}"


def ablation() -> str:
    """The ladders: a rung a line."""
    rows = []
    for preset in ("fast", "standard"):
        for result in results(f"ablation-{preset}"):
            for name, rung in result["summary"]["rungs"].items():
                rows.append(
                    [
                        f"`{preset}`, {where(result)}",
                        name,
                        number(rung["validation_accuracy"], ".2f", 100),
                        number(rung["validation_loss"], ".4f"),
                        number(rung["train_seconds"]),
                    ]
                )
    head = ["", "rung", "validation accuracy, %", "validation loss, nats", "training, s"]
    return table(head, rows)


def ablation_robust() -> str:
    """What each group of the preset's augmentation is worth, a training a line."""
    rows, figures = [], ("validation_accuracy", "corruption_error", "refused")
    for result in results("ablation-robust"):
        for name, rung in result["summary"]["rungs"].items():
            shares = (number(rung[figure], ".2f", 100) for figure in figures)
            epochs = f"{result['summary']['epochs']} epochs, {where(result)}"
            rows.append([epochs, name, *shares, number(rung["train_seconds"], ".0f")])
    head = ["", "rung", "validation accuracy, %", "corruption error, %", "no digits refused, %"]
    return table([*head, "training, s"], rows)


def handwriting() -> str:
    """Everything of the handwriting benchmark, a table a topic."""
    parts = []
    for result in results("handwriting"):
        counts = result["summary"]["counts"]
        parts.append(f"{where(result)}; {', '.join(f'{name} {n:,}' for name, n in counts.items())}.")
        for title, head, rows, _ in handwriting_report.tables(result["runs"]):
            parts.append(f"**{title}**\n\n{table(head, rows)}")
    return "\n\n".join(parts) or "No result yet."


def predict_speed() -> str:
    """Prediction: whole processes, single pictures and batches, and what was set as a goal."""
    rows, goals = [], []
    for result in results("predict_speed"):
        summary = result["summary"]
        for caches, words in (("cold", "nothing compiled before"), ("warm", "compiled before")):
            figures = summary["process"][caches]
            seconds, memory = number(figures["wall_seconds"]), f"{figures['peak_memory_mib']['mean']:.0f}"
            rows.append([where(result), f"`predict.py`, {words}", seconds, *[""] * 6, memory])
        for name, figures in summary["contestants"].items():
            kinds = ("photograph_seconds", "small_file_seconds", "array_seconds", "single_seconds")
            single = [latency(figures[kind]) if kind in figures else "" for kind in kinds]
            rate, memory = number(figures["images_per_second"], ".0f"), figures["peak_memory_mib"]["mean"]
            ratio = f"{figures['ratio_of_seconds']:.2f}"
            rows.append([where(result), name, "", *single, rate, ratio, f"{memory:.0f}"])
        for goal in summary["targets"]:
            met = "met" if goal["met"] else "**not met**"
            goals.append([where(result), goal["name"], f"{goal['value']:.2f}", met])
    single = ["photograph's file, ms", "28x28 file, ms", "28x28 array, ms", "network alone, ms"]
    head = ["", "", "process, s", *single, "images/s", "seconds, ratio to ours", "MiB"]
    figures = table(head, rows)
    return f"{figures}\n\n{table(['', 'goal', 'measured', ''], goals)}"


def latency(value: dict[str, float]) -> str:
    """Median and 95th percentile."""
    return f"{value['median']:.2f}, 95% {value['p95']:.2f}"


def reliability() -> str:
    """Runs that were killed, runs whose disk failed, and what checkpoints cost."""
    rows = []
    for result in results("kills"):
        found = result["summary"]
        rows.append(
            [
                where(result),
                f"{found['kills']} kills, {found['inside_a_write']} of them inside a write",
                f"{found['identical']} of {found['trainings']} trainings identical",
            ]
        )
    which = {"begun": "has just begun", "resumed": "goes on"}
    for result in results("faults-*"):
        found = result["summary"]
        rows.append(
            [
                where(result),
                f"{found['faults']} faults in a run that {which[found['scenario']]}",
                f"{found['good']} without loss: {found['one_line']} ended with one line, "
                f"{found['unnoticed']} went on; {found['identical']} identical in the end",
            ]
        )
    for result in results("checkpoints-*"):
        for name in ("default", "every second"):
            found = result["summary"][name]
            rows.append(
                [
                    where(result),
                    f"`{result['summary']['preset']}`, checkpoints: {name}",
                    f"{found['checkpoints']['mean']:.0f} a run; training waited for "
                    f"{found['waited_share']['mean']:.2%} of its time, a thread wrote for "
                    f"{found['beside_share']['mean']:.2%} beside it",
                ]
            )
    return table(["", "what", "what came of it"], rows)


def gpu_compile() -> str:
    """What the compiler made of the training for GPUs, and what that would cost there."""
    rows, assumptions = [], ""
    for result in results("gpu_compile"):
        summary = result["summary"]
        assumptions = "; ".join(summary["assumptions"])
        launch = summary["microseconds_per_kernel"]
        for program in summary["programs"]:
            kinds, epoch = program["kernels"], program["estimated_epoch_seconds"]
            rows.append(
                [
                    where(result),
                    summary["gpus"][program["gpu"]],
                    f"`{program['preset']}`",
                    number(program["seconds_to_compile"], ".1f"),
                    f"{program['temporary_bytes'] / 2**20:.1f}",
                    f"{sum(kinds.values())}",
                    f"{kinds.get('cudnn', 0)}",
                    f"{program['bytes_per_update'] / 1e6:.1f}",
                    f"{program['operations_per_update'] / 1e9:.2f}",
                    f"{epoch['low']:.2f} to {epoch['high']:.2f}",
                ]
            )
        assumptions += f"; a launch takes {launch['low']:g} to {launch['high']:g} microseconds"
    head = ["", "GPU", "preset", "compiled in, s", "temporaries, MiB", "kernels an update", "of them cuDNN"]
    figures = table([*head, "MB an update", "GFLOP an update", "epoch, s: an estimate"], rows)
    return f"{figures}\n\nNothing of this was run. Assumed for the estimate: {assumptions}."


def scaling() -> str:
    """What sharing an update costs here, what is exchanged, and the model of many H100s."""
    parts = []
    for result in results("scaling"):
        summary = result["summary"]
        rows = [
            [
                where(result),
                row["kind"],
                str(row["processes"]),
                str(row["devices"]),
                str(row["batch_size"]),
                number(row["milliseconds"], ".1f"),
                f"{row['overhead']:.2f}",
            ]
            for row in summary["overheads"]
        ]
        head = ["", "batch", "processes", "devices of each", "images", "update, ms", "over one device"]
        parts.append(table(head, rows))
        if h100 := summary.get("h100"):
            parts += _h100(h100)
    return "\n\n".join(parts)


def _h100(found: dict[str, Any]) -> list[str]:
    """The programs compiled for H100s, and the model."""
    rows = []
    for program in found["compiled"]:
        exchanged = [
            f"{each['kind']} of {each['bytes']:,} bytes, {each['during']} kernels meanwhile"
            for each in program["collectives"]
        ]
        rows.append(
            [
                str(program["gpus"]),
                f"{program['batch_size']:,}",
                str(program["kernels"]),
                "; ".join(exchanged),
            ]
        )
    programs = table(["H100s", "images", "kernels an update", "exchanged in an update"], rows)
    strong, weak = found["estimates"]["strong"], found["estimates"]["weak"]
    rows = [
        [f"{a['gpus']:,}"]
        + [f"{row['compute_us']:.0f} + {row['exchange_us']:.0f}" for row in (a, b)]
        + [f"{row['efficiency']:.1%}" for row in (a, b)]
        for a, b in zip(strong, weak, strict=True)
    ]
    head = ["H100s", "8,192 images, us: compute + exchange", "1,024 a GPU, us", "efficiency, strong", "weak"]
    said = "; ".join(found["assumptions"])
    return [programs, table(head, rows), f"A model, nothing of it was run. Assumed: {said}."]


def corruptions() -> str:
    """The error under each corruption, a line a model."""
    rows, names = [], []
    for result in results("corruptions"):
        for run in result["runs"]:
            names = names or [name.replace("_", " ") for name in run["errors"]]
            errors = [run["clean_error"], *run["errors"].values(), run["mean_error"]]
            rows.append(
                [where(result), f"`{run['model']}`", f"{result['n']:,}", *(f"{e:.1%}" for e in errors)]
            )
    return table(["", "model", "images", "clean", *names, "mean of 15"], rows)


def outliers() -> str:
    """How well digits are told from what is none."""
    rows = []
    for result in results("outliers"):
        for run in result["runs"]:
            figures = [f"{run['auroc']:.2%}", f"{run['refused']:.2%}", f"{run['median_score']:.3f}"]
            rows.append([where(result), run["kind"], f"{run['n']:,}", *figures])
    return table(["", "no digits", "images", "AUROC", "refused, of digits 1%", "median score"], rows)


def pages() -> str:
    """What was right of pages of several digits."""
    rows = []
    for result in results("pages"):
        for name, words in (("all", "all"), ("apart", "those where nothing touches")):
            parts = result["summary"][name]
            cells = [
                "{:.2%} ({:.2%} to {:.2%}) of {:,}".format(part["share"], *part["interval"], part["n"])
                for part in (parts["digits"], parts["five_digit_numbers"])
            ]
            seconds = number(result["summary"]["seconds_per_page"], ".0f", 1000) if name == "all" else ""
            rows.append([where(result), words, *cells, seconds])
    return table(["", "pages", "digits right (95%)", "five-digit numbers right (95%)", "ms a page"], rows)


def fuzz_pictures() -> str:
    """What became of damaged pictures."""
    rows = []
    for result in results("fuzz_pictures"):
        for run in result["runs"]:
            counts = [f"{run[name]:,}" for name in ("files", "read", "blank", "refused")]
            slowest, memory = f"{run['slowest_seconds']:.3f}", f"{run['peak_memory_mib']:.0f}"
            rows.append([where(result), *counts, f"{len(run['tracebacks'])}", slowest, memory])
    return table(["", "files", "read", "blank", "refused", "tracebacks", "slowest, s", "peak, MiB"], rows)


def mutations() -> str:
    """What every reader made of hostile input."""
    rows = []
    for result in results("mutations"):
        for run in result["runs"]:
            counts = [f"{run[name]:,}" for name in ("inputs", "read", "refused")]
            memory = f"{run['grew_mebibytes']:.0f} of {run['bound_mebibytes']}"
            offences, slowest = f"{len(run['offences'])}", f"{run['slowest_seconds']:.3f}"
            rows.append([where(result), run["reader"], *counts, offences, slowest, memory])
    return table(["", "reader", "inputs", "read", "refused", "offences", "slowest, s", "MiB more, of"], rows)


def soak() -> str:
    """Whether a process grows."""
    rows = []
    for result in results("soak"):
        for run in result["runs"]:
            grew = run["grew"]
            warm = run["warm"]
            cells = [f"{warm[n]:.0f} {grew[n]:+.0f}" for n in ("mebibytes", "files", "threads")]
            rows.append([where(result), f"{run['n']:,} {run['work']}", f"{run['seconds']:,.0f}", *cells])
    return table(["", "", "seconds", "memory, MiB", "open files", "threads"], rows)


def hardware() -> str:
    """The machine of the newest result."""
    newest = max(
        (json.loads(path.read_text()) for path in RESULTS.glob("*.json")),
        key=lambda r: r["environment"]["date"],
    )
    place = newest["environment"]
    return f"{place['processor']}, {place['cores']} cores, {place['memory_gib']} GiB, no GPU."


def _canvas(width: float, height: float) -> Any:
    """An empty figure, in inches, and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _save(figure: Any, name: str) -> None:
    with atomic_write(RESULTS / name) as file:
        figure.savefig(file, format="png", metadata={"Software": None})


_COLOURS = ("#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#999999")  # Okabe and Ito


def plot_accuracy() -> None:
    """Error against seconds of training, a point a run or, of peers with several epochs, a line."""
    figure, axes = _canvas(8.5, 5)
    colours: dict[str, str] = {}
    versions: dict[str, str] = {}
    for result in results("time_to_accuracy-*"):
        python = result["environment"]["versions"]["python"].rpartition(".")[0]
        marker = versions.setdefault(python, "os^"[len(versions) % 3])
        for name in result["summary"]["contestants"]:
            label = f"{name}, Python {python}"
            shown = label in colours
            colour = colours.setdefault(label, _COLOURS[len({*colours}) % len(_COLOURS)])
            for run in (run for run in result["runs"] if run["contestant"] == name):
                errors = [100 * (1 - accuracy) for accuracy in run["test_accuracy"]]
                axes.plot(run["train_seconds"], errors, marker=marker, color=colour, alpha=0.6,
                          markersize=5, linewidth=1, label=None if shown else label)  # fmt: skip
                shown = True
    axes.axhline(1.85, color="grey", linewidth=1, linestyle="--")
    axes.annotate("98.15% right: the Keras CNN's claim, after about a minute on a GPU", (0.02, 1.9),
                  color="grey", xycoords=("axes fraction", "data"), fontsize=9)  # fmt: skip
    axes.set(
        xlabel="seconds of training on two CPU cores", ylabel="test error, %", xscale="log", yscale="log"
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.set_yticks([0.5, 1, 2, 4])
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False, fontsize=8)
    _save(figure, "time_to_accuracy.png")


def plot_limit() -> None:
    """Where the milliseconds of an update go, a bar a preset, and what products alone would take."""
    figure, axes = _canvas(8.5, 3.4)
    names = ("forward", "gradients", "optimizer", "augmentation")
    labels = []
    for result in results("limit"):
        for preset, summary in result["summary"].items():
            python = result["environment"]["versions"]["python"].rpartition(".")[0]
            labels.append(f"{preset}\nPython {python}")
            left, place = 0.0, len(labels) - 1
            for colour, name, value in zip(_COLOURS[:1] + _COLOURS[2:], names, _steps(summary), strict=False):
                axes.barh(place, value, left=left, color=colour, label=name if place == 0 else None)
                left += value
            ideal = summary["share"] * summary["milliseconds"]["whole step"]["mean"]
            axes.plot([ideal, ideal], [place - 0.42, place + 0.42], color="black", linewidth=2,
                      label="its products at the machine's rate" if place == 0 else None)  # fmt: skip
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds an update")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, ncols=5, loc="lower center", bbox_to_anchor=(0.45, 1.0))
    _save(figure, "limit.png")


def plot_handwriting() -> None:
    """The newest Python's figures of the handwriting benchmark."""
    for result in results("handwriting")[-1:]:
        handwriting_report.plot(result["runs"], RESULTS / "handwriting.png")


SECTIONS = (
    hardware,
    limit,
    one_minute,
    time_to_accuracy,
    ablation,
    ablation_robust,
    predict_speed,
    handwriting,
    corruptions,
    outliers,
    pages,
    fuzz_pictures,
    mutations,
    soak,
    gpu_compile,
    scaling,
    reliability,
)  # what README.md has a place for


def main() -> None:
    """Writes the tables into README.md, and the plots."""
    text = README.read_text("utf-8")
    for make in SECTIONS:
        pattern = rf"(<!-- {make.__name__} -->\n).*?(<!-- end -->)"
        content = make()
        text = re.sub(pattern, lambda m, content=content: f"{m[1]}{content}\n{m[2]}", text, flags=re.S)
    with atomic_write(README) as file:
        file.write(text.encode())
    plot_accuracy()
    plot_limit()
    plot_handwriting()


if __name__ == "__main__":
    main()
