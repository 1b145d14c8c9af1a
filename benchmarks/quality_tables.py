"""The tables of how well all is read, of what is withstood and what is lost."""

from benchmarks import handwriting_report
from benchmarks.tables import number, results, table, where


def handwriting() -> str:
    """Everything of the handwriting benchmark, a table a topic."""
    parts = []
    for result in results("handwriting"):
        counts = result["summary"]["counts"]
        parts.append(f"{where(result)}; {', '.join(f'{name} {n:,}' for name, n in counts.items())}.")
        for title, head, rows, _ in handwriting_report.tables(result["runs"]):
            parts.append(f"**{title}**\n\n{table(head, rows)}")
    return "\n\n".join(parts) or "No result yet."


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
