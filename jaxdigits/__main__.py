"""The command line: flags to calls, errors to one line and an exit status; no logic of its own.

jaxdigits train [FLAGS]
jaxdigits predict PICTURE... [FLAGS]
"""

import contextlib
import dataclasses
import difflib
import io
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

_STARTED = time.perf_counter()  # the first moment that this process can see for itself

import tyro  # noqa: E402

from jaxdigits.config import PRESETS, TrainConfig, from_json  # noqa: E402
from jaxdigits.errors import DataError, JaxdigitsError, StorageError, UsageError  # noqa: E402

__all__ = ["main", "predict", "train"]

Arguments = TypeVar("Arguments")


@dataclasses.dataclass(frozen=True)
class TrainArguments:
    """Trains a recogniser of handwritten digits and leaves it in a run folder."""

    run: tyro.conf.OmitArgPrefixes[TrainConfig]
    config: Path | None = None
    """A config.json of an earlier run, to run again; other flags override it."""
    quiet: bool = False
    """Prints nothing but errors."""
    profile: Path | None = None
    """A folder for a trace of a few updates, to be read by XProf or Perfetto."""
    coordinator: str | None = None
    """Where process 0 of several is found, HOST:PORT; or auto, where SLURM, Open MPI or Kubernetes tell."""
    processes: int | None = None
    """How many processes train together."""
    process_id: int | None = None
    """Which of them this one is, from 0."""


@dataclasses.dataclass(frozen=True)
class PredictArguments:
    """Reads the digit in each picture: prints the file, the digit and its probability."""

    pictures: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PICTURE ...")]
    """Picture files, folders of them, patterns such as 'scans/*.png', or - for standard input; one digit in
    each picture."""
    model: str | None = None
    """A run folder or a model file; by default the model that comes with the package."""
    json: bool = False
    """Prints a JSON object per picture, with all probabilities."""
    invert: Literal["auto", "yes", "no"] = "auto"
    """Whether the ink is darker than the paper: found out for each picture, yes, or no."""
    raw: bool = False
    """Takes 28x28 pictures, and no others, for the network's input as they are."""
    show_preprocessed: Path | None = None
    """A PNG file to draw into what the network saw of the first pictures, step by step."""
    number: bool = False
    """Reads all the digits of each picture, line by line, and prints them."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """Where to run: the GPU if there is one, the CPU, or a GPU and nothing else."""


def train(arguments: Sequence[str]) -> None:
    """`jaxdigits train`."""
    flags = _parse(TrainArguments, arguments, "train", _defaults(arguments))
    from jaxdigits import training
    from jaxdigits.report import TrainReport

    if flags.coordinator is None and (flags.processes, flags.process_id) != (None, None):
        raise UsageError("--processes and --process-id go with --coordinator")
    if flags.coordinator is not None:
        from jaxdigits import distributed

        distributed.start(flags.coordinator, flags.processes, flags.process_id)
    with TrainReport(flags.run.epochs, quiet=flags.quiet) as report:
        result = training.train(
            flags.run,
            on_epoch=report.on_epoch,
            on_progress=report.on_progress,
            say=report.say,
            started=_process_start(),
            profile=flags.profile,
        )
        report.finish(result)


def _defaults(arguments: Sequence[str]) -> TrainArguments:
    """The values that flags start from: those of `--config`, else of `--preset`, else the standard ones."""
    given = {"--preset": "", "--config": ""}
    for flag, value in zip(arguments, [*arguments, ""][1:], strict=True):
        name, equals, attached = flag.partition("=")
        if name in given:
            given[name] = attached if equals else value
    if given["--config"]:
        if given["--preset"]:
            raise UsageError("--config and --preset each name all values; give one of them")
        return TrainArguments(from_json(given["--config"]))
    return TrainArguments(PRESETS.get(given["--preset"] or "standard", PRESETS["standard"]))


def _process_start() -> float:
    """The `time.perf_counter` at which this process was started, as near as the system tells."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        hertz = os.sysconf("SC_CLK_TCK")
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / hertz
        return time.perf_counter() - age
    return _STARTED


def predict(arguments: Sequence[str]) -> None:
    """`jaxdigits predict`."""
    flags = _parse(PredictArguments, arguments, "predict", None)
    if not flags.pictures:
        raise UsageError("predict needs at least one picture; see jaxdigits predict --help")
    from jaxdigits import device, recognizer
    from jaxdigits.prediction_report import PredictionReport

    device.select(flags.device)
    device.enable_compilation_cache()
    if flags.number:
        _read_numbers(flags)
        return
    with PredictionReport(flags.pictures, as_json=flags.json, strip=flags.show_preprocessed) as report:
        predictions = recognizer.load(flags.model).predict_iter(
            list(flags.pictures),
            invert={"auto": "auto", "yes": True, "no": False}[flags.invert],
            raw=flags.raw,
            on_error=report.on_error,
            show=report.show,
        )
        for prediction in predictions:
            report.on_prediction(prediction)
    if report.errors:
        sys.exit(DataError.exit_status)


def _read_numbers(flags: PredictArguments) -> None:
    """Prints the numbers in each picture, a line of writing a line."""
    if flags.json or flags.raw or flags.show_preprocessed:
        raise UsageError("--number goes with none of --json, --raw and --show-preprocessed")
    from jaxdigits.reading import read
    from jaxdigits.recognizer import load
    from jaxdigits.sources import sources

    recognizer, failed = load(flags.model), False
    invert = {"auto": "auto", "yes": True, "no": False}[flags.invert]
    for source in sources(list(flags.pictures)):
        try:
            print(read(source.load().pixels, recognizer, invert=invert).text)
        except DataError as error:  # the other pictures are read all the same
            print(f"jaxdigits: {' '.join(str(error).split())}", file=sys.stderr)
            failed = True
    if failed:
        sys.exit(DataError.exit_status)


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {"train": train, "predict": predict}


def _parse(kind: type[Arguments], arguments: Sequence[str], command: str, default: Any) -> Arguments:
    """Reads the flags; what tyro has to say against them becomes one line."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(kind, args=list(arguments), prog=f"jaxdigits {command}", default=default)
    except SystemExit as stop:
        if stop.code in (0, None):  # it was --help
            raise
        raise UsageError(f"{_one_line(complaint.getvalue())}; see jaxdigits {command} --help") from None


def _one_line(box: str) -> str:
    """The message in the box that tyro draws around it, and the flag that it thinks was meant."""
    lines = [re.sub(r"^[│|]|[│|]$", "", line).strip() for line in box.splitlines()]
    parts: list[list[str]] = [[]]
    for line in lines:
        if re.match(r"[╭╰─]", line):
            parts.append([])
        elif line:
            parts[-1].append(line)
    parts = [part for part in parts if part]
    message = " ".join(parts[0]) if parts else "the flags cannot be understood"
    meant = re.search(r"Perhaps you meant:?\s*(--[\w-]+)", " ".join(" ".join(part) for part in parts))
    return f"{message}; did you mean {meant[1]}?" if meant else message


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and exits with its status: 0 done, else the `exit_status` of the error."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be no text
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(
                f"{(__doc__ or '').partition(chr(10))[2].strip()}\n\nEach takes --help.".replace(
                    "\n    ", "\n"
                )
            )
            sys.stdout.flush()
            return
        if arguments[0] not in COMMANDS:
            near = difflib.get_close_matches(arguments[0], COMMANDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected {' or '.join(COMMANDS)}"
            raise UsageError(f"there is no command {arguments[0]!r}; {hint}")
        COMMANDS[arguments[0]](arguments[1:])
        sys.stdout.flush()
    except JaxdigitsError as error:
        print(f"jaxdigits: {' '.join(str(error).split())}", file=sys.stderr)
        _leave(error.exit_status)
    except KeyboardInterrupt:
        print("jaxdigits: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone, which is its right
        _drop_output()
    except OSError as error:
        _drop_output()
        print(f"jaxdigits: cannot write the output: {error.strerror or error}", file=sys.stderr)
        sys.exit(StorageError.exit_status)


def _leave(status: int) -> NoReturn:
    """Exits; one of several processes does not wait for the others, who may be waiting for it."""
    if distributed := sys.modules.get("jaxdigits.distributed"):
        distributed.give_up(status)
    sys.exit(status)


def _drop_output() -> None:
    """Sends what is still to be flushed nowhere: Python would report at its end that it cannot be."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
