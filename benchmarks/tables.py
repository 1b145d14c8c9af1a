"""Result files, and the Markdown tables that are made of them."""

import json
from typing import Any

from benchmarks.protocol import RESULTS, in_words


def results(name: str) -> list[dict[str, Any]]:
    """The result files of a benchmark, one a Python version and a kind of processor."""
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"{name}-python*.json"))]


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table. Of neighbouring rows that begin alike, the first alone says how."""
    if not rows:
        return "No result yet."
    firsts = [row[0] for row in rows]
    shown = ["" if first == before else first for before, first in zip([None, *firsts], firsts, strict=False)]
    lines = [head, ["---"] * len(head), *([first, *row[1:]] for first, row in zip(shown, rows, strict=True))]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: dict[str, float], form: str = ".2f", factor: float = 1) -> str:
    """Mean, deviation and number of runs; one run has no deviation."""
    if value["n"] == 1:
        return f"{value['mean'] * factor:{form}} (n=1)"
    return f"{value['mean'] * factor:{form}} ± {value['sd'] * factor:{form}} (n={value['n']:.0f})"


def machine(result: dict[str, Any]) -> str:
    """What a result was measured on: the GPU, or else the processor."""
    environment = result["environment"]
    return in_words((environment.get("accelerators") or [environment["processor"]])[0])


def where(result: dict[str, Any]) -> str:
    """The machine, the Python and the JAX of a result."""
    versions = result["environment"]["versions"]
    return f"{machine(result)}, Python {versions['python']}, jax {versions['jax']}"
