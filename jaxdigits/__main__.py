"""The command line: flags to calls, errors to one line and an exit status; no logic of its own.

jaxdigits train [FLAGS]
jaxdigits predict PICTURE... [FLAGS]
jaxdigits doctor [FLAGS]
"""

import contextlib
import dataclasses
import difflib
import gc
import io
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from jaxdigits import interrupts

_STARTED = time.perf_counter()  # the first moment that this process can see for itself
if __name__ == "__main__":  # before anything slow is imported; `console` does it for the other ways to here
    interrupts.leave_at_once()

import tyro  # noqa: E402

from jaxdigits import resume as resumes  # noqa: E402
from jaxdigits.config import PRESETS, TrainConfig, from_json  # noqa: E402
from jaxdigits.errors import (  # noqa: E402
    DataError,
    JaxdigitsError,
    StorageError,
    UsageError,
    in_one_line,
)

__all__ = ["doctor", "main", "predict", "train"]

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
    """Reads the digit in each picture: prints the file, the digit and its probability, or why not."""

    pictures: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PICTURE ...")]
    """Picture files, folders of them, patterns such as 'scans/*.png', or - for standard input; one digit in
    each picture."""
    model: str | None = None
    """A run folder or a model file; by default the model that comes with the package."""
    json: bool = False
    """Prints a JSON object per picture, with all probabilities."""
    csv: bool = False
    """Prints the same as a table in CSV, with a header line."""
    top: int | None = None
    """Lists so many of the most probable digits."""
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


@dataclasses.dataclass(frozen=True)
class DoctorArguments:
    """Looks whether all is there that a training and a prediction need, and tries both."""

    json: bool = False
    """Prints one JSON object."""


@contextlib.contextmanager
def _importing() -> Iterator[None]:
    """Within it Python does not look for garbage, which imports do not make: saves a tenth of a start."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def train(arguments: Sequence[str]) -> None:
    """`jaxdigits train`."""
    default = _defaults(arguments)
    flags = _parse(TrainArguments, arguments, "train", default)
    from jaxdigits.plotter import ahead

    # Of several processes only the first one draws; which that is may not be known yet.
    with ahead() if flags.coordinator is None else contextlib.nullcontext():
        _train(flags, default)


def _train(flags: TrainArguments, default: TrainArguments) -> None:
    """Trains, once the flags are known to be valid; `default` is what they started from."""
    with _importing():
        from jaxdigits import distributed, training
        from jaxdigits.report import TrainReport

    if flags.coordinator is None and (flags.processes, flags.process_id) != (None, None):
        raise UsageError("--processes and --process-id go with --coordinator")
    if flags.coordinator is not None:
        distributed.start(flags.coordinator, flags.processes, flags.process_id)
    config = flags.run
    if default.run.resume and config.resume == "auto":  # the run whose values the flags have started from
        config = dataclasses.replace(config, resume=default.run.resume, run_dir=None)
    with TrainReport(config.epochs, quiet=flags.quiet) as report:
        result = training.train(
            config,
            on_epoch=report.on_epoch,
            on_progress=report.on_progress,
            say=report.say,
            started=_process_start(),
            profile=flags.profile,
        )
        if flags.coordinator is None or distributed.first():
            report.finish(result)


def _defaults(arguments: Sequence[str]) -> TrainArguments:
    """The values that flags start from: the run's to `--resume`, or those of `--config`, or of a preset."""
    given = {"--preset": "", "--config": "", "--resume": "", "--run-dir": ""}
    for flag, value in zip(arguments, [*arguments, ""][1:], strict=True):
        name, equals, attached = flag.partition("=")
        if name in given:
            given[name] = attached if equals else value
    if given["--config"]:
        if given["--preset"]:
            raise UsageError("--config and --preset each name all values; give one of them")
        if given["--resume"]:
            raise UsageError("--resume goes on with the configuration of the run; leave out --config")
        return TrainArguments(from_json(given["--config"]))
    if given["--resume"]:
        run = resumes.find(given["--resume"], given["--run-dir"] or None)
        if run:
            return TrainArguments(resumes.begun_with(run))
    return TrainArguments(PRESETS.get(given["--preset"] or "standard", PRESETS["standard"]))


def _process_start() -> float:
    """The `time.perf_counter` at which this process was started, as near as the system tells."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        hertz = os.sysconf("SC_CLK_TCK")
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / hertz
        return time.perf_counter() - age
    return _STARTED


@interrupts.unwinding()
def predict(arguments: Sequence[str]) -> None:
    """`jaxdigits predict`."""
    flags = _parse(PredictArguments, arguments, "predict", None)
    if not flags.pictures:
        raise UsageError("predict needs at least one picture; see jaxdigits predict --help")
    if flags.json and flags.csv:
        raise UsageError("--json and --csv each name a form of the output; give one of them")
    if flags.top is not None and flags.top < 1:
        raise UsageError(f"--top is {flags.top}; expected at least 1")
    if flags.number and (flags.json or flags.csv or flags.top or flags.raw or flags.show_preprocessed):
        raise UsageError("--number goes with none of --json, --csv, --top, --raw and --show-preprocessed")
    if flags.raw and flags.invert != "auto":
        raise UsageError("--raw takes a picture as it is: give it without --invert")
    with _importing():
        from jaxdigits import device, recognizer
        from jaxdigits.prediction_report import PredictionReport
        from jaxdigits.sources import sources

    device.select(flags.device)
    device.enable_compilation_cache()
    if flags.number:
        _read_numbers(flags)
        return
    reader = recognizer.load(flags.model)
    pictures = list(sources(list(flags.pictures)))
    form = "json" if flags.json else "csv" if flags.csv else "text"
    classes = len(reader.model.class_names)
    strip = flags.show_preprocessed
    with PredictionReport(pictures, classes, form=form, top=flags.top, strip=strip) as report:
        predictions = reader.predict_iter(
            pictures,
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
    from jaxdigits.reading import read
    from jaxdigits.recognizer import load
    from jaxdigits.sources import sources

    recognizer, failed = load(flags.model), False
    invert = {"auto": "auto", "yes": True, "no": False}[flags.invert]
    for source in sources(list(flags.pictures)):
        try:
            print(read(source.load().pixels, recognizer, invert=invert).text)
        except DataError as error:  # the other pictures are read all the same
            print(f"jaxdigits: {in_one_line(error)}", file=sys.stderr)
            failed = True
    if failed:
        sys.exit(DataError.exit_status)


def doctor(arguments: Sequence[str]) -> None:
    """`jaxdigits doctor`."""
    flags = _parse(DoctorArguments, arguments, "doctor", None)
    from jaxdigits.doctor import report

    if status := report(as_json=flags.json):
        sys.exit(status)


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {"train": train, "predict": predict, "doctor": doctor}


def _parse(kind: type[Arguments], arguments: Sequence[str], command: str, default: Any) -> Arguments:
    """Reads the flags; what tyro has to say against them becomes one line."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(kind, args=list(arguments), prog=f"jaxdigits {command}", default=default)
    except SystemExit as stop:
        if stop.code in (0, None):  # it was --help
            raise
        raise UsageError(
            f"{_explained(complaint.getvalue(), kind)}; see jaxdigits {command} --help"
        ) from None


def _explained(box: str, kind: type[Any]) -> str:
    """What tyro complains of, in words that say what was expected."""
    message = _message(box)
    if found := re.match(r"Unrecognized options: ([^,]+)", message):
        unknown = found[1].partition("=")[0]
        if not unknown.startswith("-"):
            return f"there is nothing to be done with {unknown!r}: no flag takes it"
        near = difflib.get_close_matches(unknown, _flags(kind), n=1)
        return f"there is no flag {unknown}" + (f"; did you mean {near[0]}?" if near else "")
    if found := re.match(r"invalid choice '(.*)' for argument '(.*)'. Expected one of \((.*)\)", message):
        choices = re.findall(r"'(.*?)'", found[3])
        near = difflib.get_close_matches(found[1], choices, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        expected = " or ".join([", ".join(choices[:-1]), choices[-1]])
        return f"{found[2]} is {found[1]!r}; expected {expected}{hint}"
    if found := re.match(r"Missing value for argument '([^']*)'", message):
        return f"{found[1].partition('/')[0]} lacks its value"
    if found := re.match(r"Error parsing (--[\w-]+): .*(int|float).*: ('.*')", message):
        expected = "a whole number" if found[2] == "int" else "a number"
        return f"{found[1]} is {found[3]}; expected {expected}"
    return message


def _flags(kind: type[Any]) -> list[str]:
    """The flags of a command."""
    names = [field.name for field in dataclasses.fields(kind)]
    if "run" in names:  # a configuration, whose fields are flags too
        names += [field.name for field in dataclasses.fields(TrainConfig)]
    return [f"--{name.replace('_', '-')}" for name in names if name not in ("run", "pictures")]


def _message(box: str) -> str:
    """The message in the box that tyro draws around it; without the characters for one, below its title."""
    parts: list[list[str]] = [[]]
    for line in box.splitlines():
        line = re.sub(r"^[│|]|[│|]$", "", line).strip()
        if re.match(r"[╭╰─]|-{5}", line):
            parts.append([])
        elif line:
            parts[-1].append(line)
    texts = [" ".join(part) for part in parts if part]
    return "".join(texts[:1] if "╭" in box else texts[1:2]) or "the flags cannot be understood"


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
        _leave(error.exit_status, in_one_line(error))
    except KeyboardInterrupt as stop:
        status = stop.exit_status if isinstance(stop, interrupts.Interrupted) else 130
        _leave(status, str(stop) or "interrupted")
    except BrokenPipeError:  # the reader of our output has gone, which is its right
        _drop_output()
    except OSError as error:
        _drop_output()
        print(f"jaxdigits: cannot write the output: {error.strerror or error}", file=sys.stderr)
        sys.exit(StorageError.exit_status)


def _leave(status: int, reason: str) -> NoReturn:
    """Says why and exits; one of several processes does not wait for the others, who may wait for it."""
    line = f"jaxdigits: {reason}"
    if distributed := sys.modules.get("jaxdigits.distributed"):
        distributed.give_up(status, line)
    print(line, file=sys.stderr)
    sys.exit(status)


def _drop_output() -> None:
    """Sends what is still to be flushed nowhere: Python would report at its end that it cannot be."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
