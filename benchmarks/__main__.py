"""`make bench`: every benchmark in its short form, one after the other.

Each also runs alone and at length: `python -m benchmarks.limit --help`.
"""

import os
import subprocess
import sys

from benchmarks import protocol

SHORT = (
    ("limit", "--rounds", "3"),
    ("forms", "--rounds", "5", "--presets", "fast"),
    ("one_minute", "--preset", "fast", "--seeds", "2", "--cold", "1"),
    ("one_minute", "--seeds", "1", "--cold", "0"),
    ("time_to_accuracy", "--seeds", "2"),
    ("ablation", "--seeds", "1", "--last", "6"),
    ("predict_speed", "--rounds", "1"),
    ("corruptions", "--images", "200"),
    ("outliers", "--count", "20"),
    ("pages", "--pages", "10"),
    ("fuzz_pictures", "--count", "500"),
    ("mutations", "--scale", "0.02"),
    ("soak", "--trainings", "5", "--predictions", "5000"),
    ("gpu_compile", "--rounds", "1", "--presets", "fast", "standard", "--gpus", "h100", "a100"),
    ("scaling", "--rounds", "1", "--devices", "2", "--no-h100"),
    (
        *("handwriting", "--train", "fast", "--clean", "1000", "--corrupted", "100"),
        *("--pages", "10", "--pictures", "10", "--non-digits", "50"),
    ),
    ("checkpoints", "--turns", "1", "--epochs", "2"),
    ("kills", "--kills", "3"),
    ("faults", "--every", "60"),
)
LEFT_OUT = 77  # the status of a benchmark that lacks what it measures, and has said so


def main() -> None:
    """Runs them all; where one fails, says so and exits with its status at the end."""
    worst = 0
    for name, *arguments in SHORT:
        print(f"\n{name}", flush=True)
        command, variables = [sys.executable, "-m", f"benchmarks.{name}", *arguments], {protocol.SHORT: "1"}
        done = subprocess.run(command, env=os.environ | variables, check=False)  # noqa: S603
        worst = worst or (done.returncode if done.returncode != LEFT_OUT else 0)
    sys.exit(worst)


if __name__ == "__main__":
    main()
