"""Whether a process that trains and predicts on and on grows: memory, open files, threads.

Claim: over 200 short trainings and 100,000 predictions in one process, the resident memory at the end is
within `MEBIBYTES` of what it was after the first fifth, and there are no more files and threads than then.

    python -m benchmarks.soak [--trainings 200] [--predictions 100000]

A training is a smoke run with all its files, whose folder is then removed. Predictions come in rounds of
1,000, of kinds that a service would see: single arrays and encoded pictures, damaged pictures, lists, and
batches for the rest. The last line is a JSON object.
"""

import dataclasses
import gc
import io
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from benchmarks.__main__ import LEFT_OUT
from benchmarks.flags import at_least
from benchmarks.protocol import save

__all__ = ["MEBIBYTES", "grown", "levels", "observe"]

# Of resident memory, that may come and go: what the allocator keeps varies by some 20. Before it was handed
# back, 160 trainings added several hundred.
MEBIBYTES = 32.0
_QUANTITIES = ("mebibytes", "files", "threads")
_ROUND = 1000  # predictions
_FEWEST = 5  # samples that tell a growth


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Trains and predicts on and on in one process, and looks whether it grows."""

    trainings: Annotated[int, at_least(_FEWEST)] = 200
    """Short trainings: of fewer than five a growth cannot be told."""
    predictions: Annotated[int, at_least(_FEWEST * _ROUND)] = 100_000
    """Predictions, of which a thousand are looked at together."""


def observe() -> dict[str, float]:
    """What this process holds now: resident memory in MiB, open files, threads. Linux only."""
    gc.collect()
    own = Path("/proc/self")
    pages = int((own / "statm").read_text().split()[1])
    return {
        "mebibytes": pages * 4096 / 2**20,
        "files": len([*(own / "fd").iterdir()]),
        "threads": len([*(own / "task").iterdir()]),
    }


def watched(work: Callable[[int], object], times: int, samples: int = 50) -> Iterator[dict[str, float]]:
    """Does the work so many times, and observes this process every so often: before, between and after."""
    yield {"done": 0} | observe()
    every = max(1, times // samples)
    for done in range(1, times + 1):
        work(done)
        if done % every == 0 or done == times:
            yield {"done": done} | observe()


def levels(samples: list[dict[str, float]]) -> tuple[dict[str, float], dict[str, float]]:
    """The median of each quantity over the second fifth of the samples, warmed up, and over the last.

    Raises:
      ValueError: there are fewer than five samples.
    """
    if len(samples) < _FEWEST:
        raise ValueError(f"expected at least {_FEWEST} samples, found {len(samples)}")
    fifth = len(samples) // 5
    early, late = samples[fifth : 2 * fifth], samples[-fifth:]
    warm, end = ({n: statistics.median(x[n] for x in part) for n in _QUANTITIES} for part in (early, late))
    return warm, end


def grown(samples: list[dict[str, float]]) -> dict[str, float]:
    """By how much each quantity grew between the two `levels`."""
    warm, end = levels(samples)
    return {name: end[name] - warm[name] for name in _QUANTITIES}


def short_training(folder: Path) -> Callable[[int], object]:
    """A smoke training, of another seed each time, that leaves nothing."""
    import jaxdigits
    from jaxdigits.training import train

    images = Path(jaxdigits.__file__).with_name("mnist")

    def once(seed: int) -> None:
        train("fast", smoke=True, seed=seed, data_dir=str(images), run_dir=str(folder / "run"))
        shutil.rmtree(folder / "run")

    return once


def mixed_predictions() -> Callable[[int], object]:
    """A round of predictions of all kinds, with the packaged model."""
    from PIL import Image

    import jaxdigits
    from jaxdigits.errors import DataError
    from jaxdigits.recognizer import load

    reader = load()
    random = np.random.default_rng(0)
    images = jaxdigits.dataset.load(data_dir=Path(jaxdigits.__file__).with_name("mnist")).test.images
    files = []
    for image in images[:20]:
        file = io.BytesIO()
        Image.fromarray(255 - image[:, :, 0]).resize((60, 60)).save(file, "PNG")
        files.append(file.getvalue())

    def once(_: int) -> None:
        some = images[random.integers(0, len(images), _ROUND)]
        for image in some[:50]:
            reader.predict(image)
        for file in files:
            reader.predict(file)
        for file in files:
            try:
                reader.predict(file[: len(file) // 2])
            except DataError:
                continue
            raise AssertionError("half a picture was read")
        reader.predict([*some[50:100], *files], on_error="skip")
        reader.predict(some[100 + 3 * len(files) :])

    return once


def main(arguments: Arguments) -> None:
    """Runs both, prints and saves the figures, and fails where the claim does."""
    if not Path("/proc/self/statm").exists():
        print("benchmarks.soak reads /proc, which is Linux's")
        sys.exit(LEFT_OUT)
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, work, times in (
            ("trainings", short_training(Path(folder)), arguments.trainings),
            ("predictions", mixed_predictions(), arguments.predictions // _ROUND),
        ):
            started = time.perf_counter()
            samples = list(watched(work, times))
            seconds = round(time.perf_counter() - started, 1)
            n = times * (_ROUND if name == "predictions" else 1)
            warm, end = levels(samples)
            levelled = {"warm": warm, "end": end, "grew": grown(samples)}
            runs.append({"work": name, "n": n, "seconds": seconds} | levelled | {"samples": samples})
            print(json.dumps({key: value for key, value in runs[-1].items() if key != "samples"}), flush=True)
    good = all(
        run["grew"]["mebibytes"] <= MEBIBYTES and run["grew"]["files"] <= 0 and run["grew"]["threads"] <= 0
        for run in runs
    )
    told = ("n", "seconds", "warm", "end", "grew")
    summary = {run["work"]: {name: run[name] for name in told} for run in runs}
    save("soak", runs, arguments.trainings, summary | {"mebibytes_bound": MEBIBYTES, "met": good})
    print(json.dumps(summary | {"met": good}))
    if not good:
        sys.exit(1)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
