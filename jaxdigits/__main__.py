"""The command line: flags to calls, errors to one line and an exit status; no logic of its own.

jaxdigits train [FLAGS]
jaxdigits predict PICTURE... [FLAGS]
jaxdigits doctor [FLAGS]
"""

import contextlib
import dataclasses
import difflib
import functools
import gc
import io
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from jaxdigits import interrupts

_STARTED = time.perf_counter()  # the first moment that this process can see for itself
if __name__ == "__main__":  # before anything slow is imported; `console` does it for the other ways to here
    interrupts.leave_at_once()

from jaxdigits.errors import (  # noqa: E402
    DataError,
    JaxdigitsError,
    StorageError,
    UsageError,
    in_one_line,
)
from jaxdigits.flags import (  # noqa: E402
    DoctorArguments,
    PredictArguments,
    TrainArguments,
    defaults,
    parse,
)

__all__ = ["doctor", "main", "predict", "train"]


@contextlib.contextmanager
def _importing() -> Iterator[None]:
    """Within it Python does not look for garbage, which imports do not make: saves a tenth of a start.

    Nor does it look later through what they have made.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def train(arguments: Sequence[str]) -> None:
    """`jaxdigits train`."""
    default = defaults(arguments)
    flags = parse(TrainArguments, arguments, "train", default)
    with _importing():
        from jaxdigits import dataset, plotter

    # Of several processes only the first one draws; which that is may not be known yet.
    alone, config, nothing = flags.coordinator is None, flags.run, contextlib.nullcontext()
    drawing = plotter.ahead() if config.plots and alone else nothing
    with drawing, dataset.ahead(config.dataset) if config.data_dir is None and alone else nothing:
        _train(flags, default)


def _train(flags: TrainArguments, default: TrainArguments) -> None:
    """Trains, once the flags are known to be valid; `default` is what they started from."""
    with _importing():
        from jaxdigits import distributed, training

    if flags.coordinator is None and (flags.processes, flags.process_id) != (None, None):
        raise UsageError("--processes and --process-id go with --coordinator")
    if flags.coordinator is not None:
        distributed.start(flags.coordinator, flags.processes, flags.process_id)
    config = flags.run
    if default.run.resume and config.resume == "auto":  # the run whose values the flags have started from
        config = dataclasses.replace(config, resume=default.run.resume, run_dir=None)
    train = functools.partial(training.train, config, started=_process_start(), profile=flags.profile)
    if flags.quiet:
        train()
        return
    with _importing():
        from jaxdigits.report import TrainReport

    with TrainReport(math.ceil(config.epochs)) as report:
        result = train(on_epoch=report.on_epoch, on_progress=report.on_progress, say=report.say)
        if flags.coordinator is None or distributed.first():
            report.finish(result)


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
    flags = parse(PredictArguments, arguments, "predict", None)
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

    device.dispatch_synchronously()
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
    flags = parse(DoctorArguments, arguments, "doctor", None)
    from jaxdigits.doctor import report

    if status := report(as_json=flags.json):
        sys.exit(status)


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {"train": train, "predict": predict, "doctor": doctor}


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
