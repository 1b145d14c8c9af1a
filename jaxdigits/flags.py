"""The flags of the commands: what there is, what they start from, and in words what is wrong with them."""

import contextlib
import dataclasses
import difflib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, TypeVar

import tyro

from jaxdigits import resume as resumes
from jaxdigits.config import TrainConfig
from jaxdigits.errors import UsageError
from jaxdigits.fields import Sizes
from jaxdigits.presets import PRESETS, from_json

__all__ = ["DoctorArguments", "PredictArguments", "TrainArguments", "defaults", "parse"]

Arguments = TypeVar("Arguments")
_RULES = tyro.constructors.ConstructorRegistry()

if TYPE_CHECKING:
    Pictures = tuple[str, ...]
else:

    class Pictures(tuple):
        """Names of pictures: a plain class, as `fields.Sizes` is."""


@_RULES.primitive_rule
def _several(
    kind: tyro.constructors.PrimitiveTypeInfo,
) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
    """How values of these two classes are read from the words behind a flag, and written."""
    if kind.type not in (Sizes, Pictures):
        return None
    one, metavar = (int, "[INT [INT ...]]") if kind.type is Sizes else (str, "[STR [STR ...]]")
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar=metavar,
        instance_from_str=lambda words: kind.type(map(one, words)),
        is_instance=lambda value: isinstance(value, kind.type),
        str_from_instance=lambda value: [*map(str, value)],
    )


@dataclasses.dataclass(frozen=True)
class TrainArguments:
    """Trains a recogniser of handwritten digits and leaves it in a run folder."""

    run: tyro.conf.OmitArgPrefixes[TrainConfig]
    config: Optional[Path] = None
    """A config.json of an earlier run, to run again; other flags override it."""
    quiet: bool = False
    """Prints nothing but errors."""
    profile: Optional[Path] = None
    """A folder for a trace of a few updates, to be read by XProf or Perfetto."""
    coordinator: Optional[str] = None
    """Where process 0 of several is found, HOST:PORT; or auto, where SLURM, Open MPI or Kubernetes tell."""
    processes: Optional[int] = None
    """How many processes train together."""
    process_id: Optional[int] = None
    """Which of them this one is, from 0."""


@dataclasses.dataclass(frozen=True)
class PredictArguments:
    """Reads the digit in each picture: prints the file, the digit and its probability, or why not."""

    pictures: Annotated[Pictures, tyro.conf.Positional, tyro.conf.arg(metavar="PICTURE ...")]
    """Picture files, folders of them, patterns such as 'scans/*.png', or - for standard input; one digit in
    each picture."""
    model: Optional[str] = None
    """A run folder or a model file; by default the model that comes with the package."""
    json: bool = False
    """Prints a JSON object per picture, with all probabilities."""
    csv: bool = False
    """Prints the same as a table in CSV, with a header line."""
    top: Optional[int] = None
    """Lists so many of the most probable digits."""
    invert: Literal["auto", "yes", "no"] = "auto"
    """Whether the ink is darker than the paper: found out for each picture, yes, or no."""
    raw: bool = False
    """Takes 28x28 pictures, and no others, for the network's input as they are."""
    show_preprocessed: Optional[Path] = None
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


def defaults(arguments: Sequence[str]) -> TrainArguments:
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


def parse(kind: type[Arguments], arguments: Sequence[str], command: str, default: Any) -> Arguments:
    """Reads the flags; what tyro has to say against them becomes one line."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint), _RULES:
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
    if found := re.match(r"Error parsing (--[\w-]+): .*?(int|float).*?: ('.*?'|\".*?\")( -|$)", message):
        expected = "a whole number" if found[2] == "int" else "a number"
        words = [word for word in re.findall(r"choices \('(\w+)',\)", message) if word != "None"]
        return f"{found[1]} is {found[3]}; expected {' or '.join([expected, *words])}"
    return message


def _flags(kind: type[Any]) -> list[str]:
    """The flags of a command."""
    fields = {field.name: field.type for field in dataclasses.fields(kind)}
    if "run" in fields:  # a configuration, whose fields are flags too
        fields |= {field.name: field.type for field in dataclasses.fields(TrainConfig)}
    names = [*fields, *(f"no_{name}" for name, type_ in fields.items() if type_ is bool)]
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
