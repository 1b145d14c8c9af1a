"""How fast pictures are read: by a new process, one by one in a running one, and in batches.

Claim: the seconds of `python predict.py PICTURE` as a whole process, with and without compiled programs from
before; the milliseconds of one picture in a running process: a photograph's file, which has to be decoded and
searched for its digit, a file in MNIST's form, an array of that size in another; the images per second of the
network in batches, beside the same network in PyTorch and in Keras, each with the settings that were fastest
here; the memory that it takes. In batches all look at an image once, this library as well, whose model may
otherwise average over several views of it. Pictures of any kind are prepared by this library alone: the peers
start from arrays in the network's form. A peer that is not installed is left out, aloud.
`pip install .[bench]` brings PyTorch, Keras and TensorFlow.

    python -m benchmarks.predict_speed [--rounds 5] [--model RUN] [--peers pytorch ...]
"""

import dataclasses
import importlib
import importlib.util
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import tyro

from benchmarks import protocol
from benchmarks.flags import Count

PHOTOGRAPH = "tests/seven.png"  # 320x260 pixels, in colour, of a written digit on paper
OURS = "jaxdigits"
BATCH = 10_000  # images
BATCHES = 5  # of them timed in a process, after one that is not
SINGLES = 300  # calls with one picture timed in a process, after 20 that are not


class Peer(NamedTuple):
    """Where a peer is found, and what it needs."""

    module: str
    """The module's name in `benchmarks.peers`."""
    packages: tuple[str, ...]
    """What must be installed beyond this library."""
    dtype: str = "float32"
    """Number format of its products."""
    variables: tuple[tuple[str, str], ...] = ()
    """Environment variables to set before the module is imported."""


PeerName = Literal["pytorch", "pytorch_bfloat16", "keras_tensorflow", "keras_tensorflow_bfloat16"]
_TENSORFLOW = (("KERAS_BACKEND", "tensorflow"), ("TF_CPP_MIN_LOG_LEVEL", "3"))
PEERS: dict[PeerName, Peer] = {
    "pytorch": Peer("pytorch_predict", ("torch",)),
    "pytorch_bfloat16": Peer("pytorch_predict", ("torch",), "bfloat16"),
    "keras_tensorflow": Peer("keras_predict", ("keras", "tensorflow"), variables=_TENSORFLOW),
    "keras_tensorflow_bfloat16": Peer(
        "keras_predict", ("keras", "tensorflow"), "bfloat16", variables=_TENSORFLOW
    ),
}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Times prediction, in whole processes and within one, beside other libraries."""

    rounds: Count = 5
    """Processes of each kind; the kinds take turns."""
    model: str | None = None
    """A run folder or a model file; by default the model that comes with the package."""
    peers: tuple[PeerName, ...] = get_args(PeerName)
    """The peers to compare with."""


def timed(function: Callable[[Any], Any], argument: Any, n: int, before: int) -> list[float]:
    """Seconds of each of `n` calls, which are waited for, after some that do not count."""
    seconds = []
    for call in range(-before, n):
        started = time.perf_counter()
        function(argument)
        if call >= 0:
            seconds.append(round(time.perf_counter() - started, 7))
    return seconds


def contestant(name: Any, model: str = "") -> None:
    """Times one contestant in this process, and prints the seconds."""
    result = _ours(model) if name == OURS else _peer(name, model)
    print(json.dumps({"contestant": name} | result))


def _images() -> np.ndarray:
    """Noise in the network's form: the time does not depend on what there is to see."""
    return np.random.default_rng(0).integers(0, 256, (BATCH, 28, 28, 1), np.uint8)


def _ours(path: str) -> dict[str, Any]:
    from PIL import Image

    from jaxdigits import device
    from jaxdigits.image import prepare
    from jaxdigits.recognizer import Recognizer, load

    device.enable_compilation_cache()
    recognizer = load(path or None)  # starts JAX, as it does for a user
    array = np.asarray(Image.open(PHOTOGRAPH).convert("L").resize((28, 28)))
    small = tempfile.NamedTemporaryFile(suffix=".png")  # noqa: SIM115 (as long as the process)
    Image.fromarray(prepare(array).image).save(small.name)
    images = _images()
    once = Recognizer(dataclasses.replace(recognizer.model, views=1))
    return {
        "views": recognizer.model.views,
        "network": [list(recognizer.model.channels), recognizer.model.hidden],
        "photograph_seconds": timed(recognizer.predict, PHOTOGRAPH, SINGLES, 20),
        "small_file_seconds": timed(recognizer.predict, small.name, SINGLES, 20),
        "array_seconds": timed(recognizer.predict, array, SINGLES, 20),
        "single_seconds": timed(once.probabilities, images[:1], SINGLES, 20),
        "batch_seconds": timed(once.probabilities, images, BATCHES, 1),
        "all_views_seconds": timed(recognizer.probabilities, images, 2, 1),
    }


def _peer(name: PeerName, path: str) -> dict[str, Any]:
    from jaxdigits.checkpoint import load_model
    from jaxdigits.recognizer import DEFAULT_MODEL

    peer = PEERS[name]
    for package in peer.packages:
        if importlib.util.find_spec(package) is None:
            return {"skipped": f"{package} is not installed"}
    os.environ.update(peer.variables)
    module = importlib.import_module(f"benchmarks.peers.{peer.module}")
    model = load_model(path or DEFAULT_MODEL)
    predict = module.predictor(model.channels, model.hidden, len(model.class_names), peer.dtype)
    images = _images()
    return {
        "settings": module.SETTINGS[peer.dtype],
        "single_seconds": timed(predict, images[:1], SINGLES, 20),
        "batch_seconds": timed(predict, images, BATCHES, 1),
    }


def process(model: str, cache: Path) -> dict[str, Any]:
    """One picture read by a new process, with compiled programs kept in this folder."""
    command = ["predict.py", PHOTOGRAPH, *(["--model", model] if model else [])]
    return protocol.run(command, JAXDIGITS_CACHE=str(cache))[1]


def main(arguments: Arguments) -> None:
    """Measures, prints and saves."""
    code = "import sys; from benchmarks.predict_speed import contestant; contestant(*sys.argv[1:])"
    model = str(Path(arguments.model).resolve()) if arguments.model else ""
    runs: list[dict[str, Any]] = []
    left_out: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        warm = Path(folder) / "warm"
        process(model, warm)  # compiles the program
        for turn in range(arguments.rounds):
            for caches, cache in (("cold", Path(folder) / f"cold-{turn}"), ("warm", warm)):
                measured = process(model, cache)
                runs.append({"contestant": "predict.py", "caches": caches, "turn": turn} | measured)
            for name in (OURS, *arguments.peers):
                if name in left_out:
                    continue
                output, measured = protocol.run(["-c", code, name, model], JAXDIGITS_CACHE=str(warm))
                result = json.loads(output.splitlines()[-1])
                if "skipped" in result:
                    print(f"{name} is left out: {result['skipped']}", flush=True)
                    left_out.add(name)
                    continue
                runs.append(result | {"turn": turn} | measured)
                _tell(runs[-1])
    summary = summarise(runs) | {"left_out": sorted(left_out)}
    print(protocol.save("predict_speed", runs, arguments.rounds, summary))


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """From the runs to means; whether they are good enough, `targets` knows."""
    names = list(dict.fromkeys(run["contestant"] for run in runs if run["contestant"] != "predict.py"))
    by_name = {name: [run for run in runs if run["contestant"] == name] for name in names}
    mine = [statistics.median(run["batch_seconds"]) for run in by_name[OURS]]
    contestants = {}
    for name, chosen in by_name.items():
        batch = [statistics.median(run["batch_seconds"]) for run in chosen]
        contestants[name] = {
            "images_per_second": protocol.mean([BATCH / seconds for seconds in batch]),
            "ratio_of_seconds": protocol.ratio(batch, mine),
            "peak_memory_mib": protocol.mean([run["peak_memory_mib"] for run in chosen]),
        } | {
            kind: latency(chosen, kind)
            for kind in ("single_seconds", "array_seconds", "small_file_seconds", "photograph_seconds")
            if kind in chosen[0]
        }
    whole = {
        caches: {
            figure: protocol.mean([run[figure] for run in runs if run.get("caches") == caches])
            for figure in ("wall_seconds", "peak_memory_mib")
        }
        for caches in ("cold", "warm")
    }
    first = by_name[OURS][0]
    return {
        "views": first["views"],
        "network": first["network"],
        "contestants": contestants,
        "process": whole,
    }


def latency(runs: list[dict[str, Any]], kind: str) -> dict[str, float]:
    """Median and 95th percentile over all calls, in milliseconds, and how many there were."""
    seconds = np.concatenate([run[kind] for run in runs])
    median, late = np.percentile(seconds, [50, 95]) * 1e3
    return {"median": float(median), "p95": float(late), "n": len(seconds)}


def _tell(run: dict[str, Any]) -> None:
    rate = BATCH / statistics.median(run["batch_seconds"])
    single = 1e3 * statistics.median(run["single_seconds"])
    print(f"{run['contestant']} turn {run['turn']}: {rate:.0f} images/s, one array {single:.2f} ms", end="")
    if "photograph_seconds" in run:
        print(f", a photograph {1e3 * statistics.median(run['photograph_seconds']):.2f} ms", end="")
    print(f", {run['peak_memory_mib']:.0f} MiB", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
