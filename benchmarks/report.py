"""From the result files to the tables of README.md and to the plot beside it.

    python -m benchmarks.report

Nothing in the tables is written by hand: what stands between two markers comes from `results/`.
"""

import json
import re
from pathlib import Path

from benchmarks.protocol import RESULTS
from benchmarks.quality_tables import (
    corruptions,
    fuzz_pictures,
    handwriting,
    mutations,
    outliers,
    pages,
    reliability,
    soak,
)
from benchmarks.result_plots import plot_accuracy, plot_handwriting, plot_limit
from benchmarks.speed_tables import (
    ablation,
    ablation_robust,
    forms,
    gpu_compile,
    limit,
    one_minute,
    predict_speed,
    scaling,
    time_to_accuracy,
)
from benchmarks.targets import gpu_targets, targets
from jaxdigits.storage import atomic_write

README = Path(__file__).with_name("README.md")


def hardware() -> str:
    """The machines of the results, a line each."""
    committed = (path for path in RESULTS.glob("*-python*.json") if not path.name.startswith("short-"))
    places = [json.loads(path.read_text())["environment"] for path in committed]
    machines = {
        f"- {place['processor']}, cores: {place['cores']}, {place['memory_gib']:.0f} GiB, "
        f"{', '.join(place.get('accelerators', ())) or 'no GPU'}"
        for place in places
    }
    return "\n".join(sorted(machines))


SECTIONS = (
    hardware,
    targets,
    gpu_targets,
    limit,
    forms,
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
