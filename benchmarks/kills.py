"""Whether a training survives a power cut: killed at random moments, resumed each time until it is done.

Claim: whatever the moment of a `kill -9`, the run ends with the weights and metrics, bit for bit, of one that
was left alone. A third of the kills come at any moment of the process, a third at any moment of the training,
and a third while a checkpoint is being written. The training saves as often as it can, and has validation,
augmentation and several epochs.

    python -m benchmarks.kills [--kills 100] [--seed 0]
"""

import dataclasses
import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tyro

from benchmarks import protocol
from benchmarks.flags import Count, Natural
from jaxdigits.last_snapshot import LAST_FILE
from jaxdigits.resume import ended
from jaxdigits.runs import BEST_FILE

FLAGS = ("--preset", "fast", "--epochs", "3", "--validation", "5000", "--max-shift", "1", "--early-stop", "3")
KINDS = ("process", "training", "writing")
_KILLS_A_RUN = 5  # at most; then it is left to end, so that all the runs do


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Kills trainings, resumes them, and compares how they end."""

    kills: Count = 100
    """How often to kill."""
    seed: Natural = 0
    """Of the moments."""


def start(run: Path) -> "subprocess.Popen[str]":
    """Begins the training in a folder, or goes on with it there."""
    command = [sys.executable, "train.py", "--quiet", *FLAGS, "--checkpoint-seconds", "0"]
    return subprocess.Popen(  # noqa: S603
        [*command, "--run-dir", str(run), "--resume", "auto"],
        cwd=protocol.ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill(process: "subprocess.Popen[str]", run: Path, kind: str, seconds: float) -> bool:
    """Waits for the moment of a kind and kills; False if the process has ended before.

    Args:
      process: the training.
      run: its folder.
      kind: one of `KINDS`.
      seconds: after the process, the training or a write has begun.
    """
    before = _changed(run / LAST_FILE)
    come = {
        "process": lambda: True,
        "training": lambda: _changed(run / LAST_FILE) != before,
        "writing": lambda: _writing(run),
    }[kind]
    while process.poll() is None and not come():
        time.sleep(2e-4)
    began = time.perf_counter()
    while process.poll() is None and time.perf_counter() - began < seconds:
        time.sleep(2e-4)
    if process.poll() is not None:
        return False
    process.kill()
    process.wait()
    return process.returncode == -9


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _writing(run: Path) -> bool:
    """Whether a checkpoint is half-written."""
    try:
        return any(path.name.startswith((f".{LAST_FILE}", f".{BEST_FILE}")) for path in run.iterdir())
    except OSError:
        return False


def outcome(run: Path) -> dict[str, Any]:
    """All of a finished run that its seed decides."""
    times = ("seconds", "images_per_second", "checkpoints")
    lines = (run / "metrics.jsonl").read_text().splitlines()
    tables = [json.loads(line) for line in [*lines, (run / "summary.json").read_text()]]
    files = {name: (run / name).read_bytes() for name in ("model.safetensors", BEST_FILE)}
    return {"tables": [{k: v for k, v in table.items() if k not in times} for table in tables]} | files


def main(arguments: Arguments) -> None:
    """Kills, compares, prints and saves; exits with 1 if a run ended otherwise."""
    choose = random.Random(arguments.seed)  # noqa: S311
    records: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        expected, whole = _undisturbed(Path(folder))
        longest = {"process": whole, "training": whole / 3, "writing": 0.002}
        kinds, ends = itertools.cycle(KINDS), []
        while sum(record["killed"] for record in records) < arguments.kills:
            run, failed = Path(folder) / f"run-{len(ends)}", ""
            for turn in itertools.count():
                process = start(run)
                left = arguments.kills - sum(record["killed"] for record in records)
                if turn < _KILLS_A_RUN and left:
                    kind = next(kinds)
                    seconds = choose.uniform(0, longest[kind])
                    killed = kill(process, run, kind, seconds)
                    record = {"run": len(ends), "kind": kind, "seconds": round(seconds, 4), "killed": killed}
                    records.append(record | {"half_written": killed and _writing(run)})
                _, error = process.communicate()
                if process.returncode == -9 and not ended(run):  # or it was killed behind its last write
                    continue
                failed = error.strip() if process.returncode not in (0, -9) or error else ""
                break
            ends.append(not failed and outcome(run) == expected)
            print(f"run {len(ends)}: {'identical' if ends[-1] else failed or 'DIFFERENT'}", flush=True)
    kills = [record for record in records if record["killed"]]
    summary = {
        "kills": len(kills),
        "inside_a_write": sum(record["half_written"] for record in kills),
        "trainings": len(ends),
        "identical": sum(ends),
    }
    print(summary)
    print(protocol.save("kills", records, len(kills), summary))
    sys.exit(not all(ends))


def _undisturbed(folder: Path) -> tuple[dict[str, Any], float]:
    """How the training ends when it is left alone, and how many seconds it takes with warm caches."""
    seconds = 0.0
    for name in ("cold", "warm"):
        began = time.perf_counter()
        _, error = start(folder / name).communicate()
        seconds = time.perf_counter() - began
        if error:
            raise RuntimeError(error)
    if outcome(folder / "cold") != outcome(folder / "warm"):
        raise RuntimeError("two undisturbed runs differ")
    return outcome(folder / "warm"), seconds


if __name__ == "__main__":
    main(tyro.cli(Arguments))
