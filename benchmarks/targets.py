"""The goals that were set, for two CPU cores without a GPU and for a GPU, and what of them each result meets.

The goals were written down before anything was measured; that of a GPU's default training is read of the
preset `gpu`, which is later. A mark says that a file is of a preset, or of a way of counting, that has been
changed since.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from benchmarks.tables import machine, results, table
from jaxdigits.presets import PRESETS

__all__ = ["gpu_targets", "targets"]

_LAST_BITS = 1e-9  # by which a mean may miss a bound that it has
OLDER = "°"  # behind a figure that is of an earlier form of its preset, or counted otherwise
MUON = "2026-11-29T03:20"  # since when `fast` and `sprint` are trained with it
KERAS_IN_BFLOAT16 = "2026-11-28T15:30"  # since when Keras has it where it is faster


class Target(NamedTuple):
    """A goal, and how it is read out of a result file."""

    words: str
    """What is measured, and the bound."""
    benchmark: str
    """The name of its result files."""
    value: Callable[[dict[str, Any]], float | None]
    """From a result to the figure, or None where it has none."""
    form: str
    """How it is written."""
    bound: Callable[[bool], float]
    """The bound, on the newest Python (true) or on the oldest."""
    above: bool
    """Whether the figure has to be the bound or more; else it has to be less."""


def _always(bound: float) -> Callable[[bool], float]:
    return lambda _: bound


def _headline(result: dict[str, Any]) -> float | None:
    """How many times sooner than PyTorch's recipe `fast` is done, if its mean has 99.0%."""
    contestants = result["summary"]["contestants"]
    enough = contestants["jaxdigits fast"]["test_accuracy"]["mean"] >= 0.99
    return contestants["pytorch_one_epoch"]["ratio_of_training"] if enough else 0.0


def _keras(figure: str) -> Callable[[dict[str, Any]], float | None]:
    def read(result: dict[str, Any]) -> float | None:
        peers = result["summary"]["accuracies"]["98.15%"]["peers"]
        return peers.get("keras_origin_tensorflow", {}).get(figure)

    return read


def _warm(read: Callable[[dict[str, Any]], float]) -> Callable[[dict[str, Any]], float | None]:
    return lambda result: read(result["summary"]["warm"])


def _rest(warm: dict[str, Any]) -> float:
    seconds = warm["seconds"]
    return seconds["total"]["mean"] - seconds["train"]["mean"] - seconds["evaluate"]["mean"]


def _share(preset: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda result: result["summary"].get(preset, {}).get("share")


def _peak(result: dict[str, Any]) -> float:
    """The most memory that any run took."""
    return max(run["peak_memory_mib"] for run in result["runs"])


def _single(kind: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda result: result["summary"]["contestants"]["jaxdigits"][kind]["median"]


def _batches(result: dict[str, Any]) -> float:
    """The seconds of the fastest peer to ours."""
    contestants = result["summary"]["contestants"]
    return min(each["ratio_of_seconds"] for name, each in contestants.items() if name != "jaxdigits")


def _process(result: dict[str, Any]) -> float:
    return result["summary"]["process"]["cold"]["wall_seconds"]["mean"]


def _processes(result: dict[str, Any]) -> float:
    return max(run["peak_memory_mib"] for run in result["runs"] if run["contestant"] == "predict.py")


MINUTE, PREDICT, HEADLINE = "one_minute-standard", "predict_speed", "time_to_accuracy-headline"
KERAS = "time_to_accuracy-keras"
TARGETS = (
    Target("1. `fast`, a mean of 99.0% or more: times sooner than PyTorch in one epoch; 5 or more, "
           "4 on 3.11", HEADLINE, _headline, ".1f", lambda new: 5.0 if new else 4.0, True),
    Target("2. 98.15%: training, times sooner than Keras on TensorFlow; 60 or more", KERAS,
           _keras("ratio_of_training"), ".0f", _always(60), True),
    Target("2. the same of the whole process; 20 or more", KERAS, _keras("ratio_of_process"), ".0f",
           _always(20), True),
    Target("3. `standard`, test accuracy, %; 99.65 or more, 99.6 on 3.11", MINUTE,
           _warm(lambda warm: 100 * warm["test_accuracy"]["mean"]), ".2f",
           lambda new: 99.65 if new else 99.6, True),
    Target("3. `standard`, warm, all of it, s; below 60", MINUTE,
           _warm(lambda warm: warm["seconds"]["total"]["mean"]), ".1f", _always(60), False),
    Target("4. `fast`, share of the float32 product rate; 60% or more", "limit", _share("fast"), ".1%",
           _always(0.6), True),
    Target("4. `standard`, the same; 60% or more", "limit", _share("standard"), ".1%", _always(0.6), True),
    Target("5. `standard`, warm, neither training nor evaluation, s; below 2", MINUTE, _warm(_rest), ".1f",
           _always(2), False),
    Target("6. a 28x28 picture's file, ms; below 2", PREDICT, _single("small_file_seconds"), ".2f",
           _always(2), False),
    Target("6. a 28x28 array to be brought into MNIST's form, ms; below 2", PREDICT,
           _single("array_seconds"), ".2f", _always(2), False),
    Target("6. a photograph's file, ms; below 2", PREDICT, _single("photograph_seconds"), ".2f", _always(2),
           False),
    Target("6. `predict.py`, nothing compiled, s; below 2.5", PREDICT, _process, ".1f", _always(2.5), False),
    Target("6. batches, times the speed of the fastest peer; above 1", PREDICT, _batches, ".2f", _always(1),
           True),
    Target("7. peak memory of training, `standard`, cold or warm, MiB; below 1024", MINUTE, _peak, ".0f",
           _always(1024), False),
    Target("7. of `predict.py`, MiB; below 500", PREDICT, _processes, ".0f", _always(500), False),
)  # fmt: skip


def _contestant(name: str, figure: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda result: result["summary"]["contestants"][name][figure]["mean"]


GPU_MINUTE = "one_minute-gpu"
GPU_TARGETS = (
    Target("`gpu`, test accuracy, %; 99.6 or more", GPU_MINUTE,
           _warm(lambda warm: 100 * warm["test_accuracy"]["mean"]), ".2f", _always(99.6), True),
    Target("`gpu`, warm, all of it, s; below 10", GPU_MINUTE,
           _warm(lambda warm: warm["seconds"]["total"]["mean"]), ".1f", _always(10), False),
    Target("`fast`, test accuracy, %; 99.0 or more", HEADLINE,
           lambda result: 100 * (_contestant("jaxdigits fast", "test_accuracy")(result) or 0), ".2f",
           _always(99), True),
    Target("`fast`, training alone, s; below 1", HEADLINE, _contestant("jaxdigits fast", "train_seconds"),
           ".2f", _always(1), False),
)  # fmt: skip


def targets() -> str:
    """Each goal for two CPU cores, with what each machine and Python has of it: met, or **missed**."""
    return _told(TARGETS, on_gpu=False)


def gpu_targets() -> str:
    """Each goal for a GPU, likewise."""
    return _told(GPU_TARGETS, on_gpu=True)


def _told(goals: Sequence[Target], *, on_gpu: bool) -> str:
    places: dict[str, None] = {}
    found: dict[tuple[int, str], str] = {}
    for number, target in enumerate(goals):
        for result in results(target.benchmark):
            if bool(result["environment"].get("accelerators")) != on_gpu:
                continue
            place = f"{machine(result)}, Python {result['environment']['versions']['python']}"
            value = target.value(result)
            if value is None:
                continue
            places.setdefault(place)
            found[number, place] = _cell(target, value, place, _older(target, result))
    columns = sorted(places)
    rows = [
        [target.words, *(found.get((number, place), "") for place in columns)]
        for number, target in enumerate(goals)
    ]
    return table(["", *columns], rows)


def _cell(target: Target, value: float, place: str, older: bool) -> str:
    bound = target.bound("Python 3.11" not in place)
    met = value >= bound - _LAST_BITS if target.above else value < bound
    shown = format(value, target.form) + (OLDER if older else "")
    return shown if met else f"**{shown}, missed**"


def _older(target: Target, result: dict[str, Any]) -> bool:
    """Whether a result is of a preset that is another one now, or counted otherwise, as far as it tells."""
    date = result["environment"]["date"]
    if target.benchmark in (HEADLINE, KERAS):
        return date < MUON
    if target.benchmark == PREDICT and "batches" in target.words:
        return date < KERAS_IN_BFLOAT16
    if target.benchmark == MINUTE:
        run = next(run for run in result["runs"] if run["caches"] == "warm")
        preset = PRESETS["standard"]
        updates = run["steps"] / run["epochs"]  # of an epoch; how many images there are, batches tell
        return run["epochs"] != preset.epochs or updates > 60_000 / preset.batch_size + 1
    if target.benchmark == "limit":
        name = "standard" if "standard" in target.words else "fast"
        summary = result["summary"].get(name)
        return summary is not None and summary["batch_size"] != PRESETS[name].batch_size
    return False
