"""The tables of how fast all is: trainings, steps, predictions, many devices."""

import itertools
import math
import statistics
from typing import Any

from benchmarks.tables import machine, number, results, table, where


def limit() -> str:
    """How near the step is to the machine's rate, and its breakdown."""
    rows = []
    for result in results("limit"):
        for preset, summary in result["summary"].items():
            whole = summary["milliseconds"]["whole step"]["mean"]
            form = f"{{:.{2 if whole > 1 else 3}f}}".format
            rate = f"{summary['step_gflops']['mean']:.0f} of {summary['product_gflops']['mean']:.0f}"
            dtype, own = summary.get("dtype", "float32"), ""  # files from before bfloat16 name none
            if dtype != "float32":
                in_dtype = summary["product_gflops_in_dtype"]["mean"]
                own = f"{summary['share_in_dtype']:.0%} of {in_dtype:.0f}"
            rows.append(
                [where(result), f"`{preset}`", str(summary["batch_size"]), rate, f"{summary['share']:.0%}"]
                + [f"{summary['share_executed']:.0%}", dtype, own, form(whole)]
                + [form(step) for step in steps(summary)]
            )
    head = ["", "preset", "images", "GFLOP/s", "share", "executed", "products in", "share there", "step, ms"]
    head += ["forward", "gradients", "optimizer", "augmentation"]
    return "\n\n".join([table(head, rows), *_on_gpus(), _layers()])


def _on_gpus() -> list[str]:
    """Of GPUs, what a step launches and moves."""
    rows = [
        [
            where(result),
            f"`{preset}`",
            str(sum(summary["kernels"].values())),
            f"{summary['bytes_per_update'] / 1e6:.0f}",
            f"{summary['bandwidth']['mean'] / 1e9:.0f}",
            f"{summary['share_of_bandwidth']:.0%}",
        ]
        for result in results("limit")
        for preset, summary in result["summary"].items()
        if "kernels" in summary
    ]
    head = ["", "preset", "kernels an update", "MB an update", "memory, GB/s", "share"]
    return [table(head, rows)] if rows else []


def _layers() -> str:
    """Each layer alone on each machine, by its newest Python: milliseconds, and the rate of its products."""
    newest = {machine(result): result["summary"] for result in results("limit")}
    sizes = {
        (preset, layer): operations
        for presets in newest.values()
        for preset, summary in presets.items()
        for layer, operations in summary["layers"].items()
    }
    rows = []
    for (preset, layer), operations in sizes.items():
        row = [f"`{preset}`", layer, f"{operations / 1e6:.3f}"]
        for presets in newest.values():
            if (summary := presets.get(preset)) is None:
                row.append("")
                continue
            forward, both = (part["mean"] for part in summary["layer_milliseconds"][layer])
            rate = operations * summary["batch_size"] / 1e6 / forward
            row.append(f"{forward:.2f} / {both:.2f}, {rate:.0f}")
        rows.append(row)
    names = [
        f"{name}, {next(iter(presets.values()))['batch_size']} images" for name, presets in newest.items()
    ]
    return table(["", "layer alone", "MFLOP an image", *names], rows)


def forms() -> str:
    """What each form of the network costs."""
    rows = []
    for result in results("forms"):
        for preset, summary in result["summary"].items():
            by_form: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
            for row in summary:
                by_form.setdefault((row["form"], row["dtype"]), {})[row["of"]] = row
            for (form, dtype), found in by_form.items():
                cells = []
                for of in ("update", "image"):
                    mean, ratio = found[of]["microseconds"]["mean"], found[of]["ratio_to_named"]
                    cells += [
                        f"{mean:.{0 if mean >= 100 else 1}f}",
                        "taken" if found[of]["named"] else f"{ratio:.2f}",
                    ]
                rows.append([where(result), f"`{preset}`", f"`{form}`", dtype, *cells])
    head = ["", "preset", "form", "products in", "an update, us", "to that taken"]
    return table([*head, "an image read, us", "to that taken"], rows)


def steps(summary: dict[str, Any]) -> list[float]:
    """Milliseconds of forward, gradients, optimizer and augmentation: differences of nested parts.

    They add up to the step; one that is next to nothing may come out below zero.
    """
    parts = ("forward", "forward and gradients", "without augmentation", "whole step")
    times = [0.0, *(summary["milliseconds"][part]["mean"] for part in parts)]
    return [late - early for early, late in itertools.pairwise(times)]


def one_minute() -> str:
    """Whole trainings."""
    rows = []
    for preset in ("fast", "standard", "gpu", "large_batch"):
        for result in results(f"one_minute-{preset}"):
            devices = result["summary"].get("devices", 1)
            for caches in ("cold", "warm"):
                if caches in result["summary"]:
                    summary = result["summary"][caches]
                    seconds = summary["seconds"]
                    rest = seconds["total"]["mean"] - seconds["train"]["mean"] - seconds["evaluate"]["mean"]
                    runs = [run for run in result["runs"] if run["caches"] == caches]
                    epochs, updates = runs[0]["epochs"], runs[0]["steps"]
                    rows.append(
                        [
                            where(result),
                            f"`{preset}`" + (f", {devices} simulated devices" if devices > 1 else ""),
                            f"{epochs:g} x {updates / epochs:.0f}",
                            caches,
                            number(summary["test_accuracy"], ".2f", 100),
                            number(seconds["train"], ".1f"),
                            number(seconds["total"], ".1f"),
                            f"{rest:.1f}",
                            f"{max(run['peak_memory_mib'] for run in runs):.0f}",
                        ]
                    )
    head = ["", "preset", "epochs x updates", "caches", "test accuracy, %", "train, s", "total, s", "rest, s"]
    return table([*head, "MiB, at most"], rows)


def time_to_accuracy() -> str:
    """The contestants side by side: whole trainings, and who reached which accuracy when."""
    rows, reached = [], []
    for result in results("time_to_accuracy-*"):
        last = {}
        for run in result["runs"]:
            last.setdefault(run["contestant"], []).append(run["test_accuracy"][-1])
        until = result["summary"].get("until")
        stopped = "" if until is None else f", until {until:.2%}"
        for name, summary in result["summary"]["contestants"].items():
            ratio = summary["ratio_of_training"]
            settings = next(run for run in result["runs"] if run["contestant"] == name).get("settings", {})
            rows.append(
                [
                    where(result),
                    name + ("" if name.startswith("jaxdigits") else stopped),
                    _products_in(settings),
                    number(summary["test_accuracy"], ".2f", 100),
                    number(summary["train_seconds"]),
                    number(summary["wall_seconds"], ".1f"),
                    "" if ratio is None else f"{ratio:.2f}",
                ]
            )
        for accuracy, found in result["summary"]["accuracies"].items():
            for name, peer in found["peers"].items():
                mine = [value >= float(accuracy.rstrip("%")) / 100 for value in last[found["ours"]]]
                line = [where(result), accuracy, found["ours"], f"{sum(mine)} of {len(mine)}"]
                line += [name, f"{peer['reached']} of {peer['of']}"]
                if peer["reached"]:
                    form = ".1f" if peer["train_seconds"]["mean"] > 1 else ".2f"
                    line += [number(peer["train_seconds"], form)]
                    line += [f"{peer['ratio_of_training']:.1f}", f"{peer['ratio_of_process']:.1f}"]
                else:
                    line += ["", "", ""]
                reached.append(line)
    head = ["", "", "products in", "test accuracy, %", "training, s", "process, s"]
    head += ["training, ratio to `fast`"]
    whole = table(head, rows)
    head = ["", "to", "ours", "reached by", "peer", "reached by", "training, s", "ratio of training"]
    head += ["ratio of process"]
    return f"{whole}\n\n{table(head, reached)}"


def _products_in(settings: dict[str, Any]) -> str:
    """A peer's number format."""
    words = settings.get("precision", "float32" if settings else "")
    return words.removeprefix("mixed_").removesuffix(" autocast")


def ablation() -> str:
    """The ladders: a rung a line, with what it gains over the rung before, seed by seed."""
    rows = []
    for preset in ("fast", "standard"):
        for result in results(f"ablation-{preset}"):
            before: dict[int, float] = {}
            for name, rung in result["summary"]["rungs"].items():
                here = {
                    run["seed"]: run["validation_accuracy"] for run in result["runs"] if run["rung"] == name
                }
                gains = [100 * (here[seed] - before[seed]) for seed in here if seed in before]
                before = here
                rows.append(
                    [
                        f"`{preset}`, {where(result)}",
                        name,
                        number(rung["validation_accuracy"], ".2f", 100),
                        _gain(gains),
                        number(rung["validation_loss"], ".4f"),
                        number(rung["train_seconds"]),
                    ]
                )
    head = ["", "rung", "validation accuracy, %", "gain, points", "validation loss, nats", "training, s"]
    return table(head, rows)


def _gain(gains: list[float]) -> str:
    """The mean of some gains, and its standard error."""
    if len(gains) < 2:
        return ""
    return f"{statistics.fmean(gains):+.2f} ± {statistics.stdev(gains) / math.sqrt(len(gains)):.2f}"


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


def predict_speed() -> str:
    """Prediction: whole processes, single pictures and batches."""
    rows = []
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
    single = ["photograph's file, ms", "28x28 file, ms", "28x28 array, ms", "network alone, ms"]
    head = ["", "", "process, s", *single, "images/s", "seconds, ratio to ours", "MiB"]
    return table(head, rows)


def latency(value: dict[str, float]) -> str:
    """Median and 95th percentile."""
    return f"{value['median']:.2f}, 95% {value['p95']:.2f}"


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
