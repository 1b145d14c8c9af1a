"""Every command and every program that the README shows is run, in its shortest form."""

import dataclasses
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from jaxdigits.config import TrainConfig
from jaxdigits.presets import PRESETS

from .conftest import ROOT

README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.M | re.S)
COMMANDS = [
    line.split("  #")[0].strip()
    for language, text in BLOCKS
    if language == "sh"
    for line in text.splitlines()
    if line.strip() and not line.startswith("#")
]
PROGRAMS = [text for language, text in BLOCKS if language == "python"]

SHORT = ["--smoke", "--max-updates", "3"]  # the whole path, from the images to the model

# What would set the machine up again, or is running right now.
LEFT_OUT = re.compile(r"^(make (setup|test|bench|lint)|PYTHON=|git |cd |pip |\.venv/bin/pip |nvidia-smi)")


@pytest.fixture
def clone(tmp_path):
    """A folder that looks like a clone in use: its programs, and a picture to read."""
    (tmp_path / "tests").mkdir()
    for name in ("train.py", "predict.py", "tests/seven.png"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_readme_shows_commands_and_programs():
    assert len(COMMANDS) >= 8
    assert len(PROGRAMS) >= 2
    assert {"make train", "make test"} <= set(COMMANDS)


def test_every_command_of_the_readme_runs(clone):
    last_run = None
    for command in COMMANDS:
        if LEFT_OUT.match(command):
            continue
        words = shlex.split(command)
        if words[:2] == ["make", "train"]:
            flags = " ".join(word.removeprefix("ARGS=") for word in words[2:])
            words = ["python", "train.py", *shlex.split(flags)]
        if words[0] == "jaxdigits":
            words = ["python", "-m", *words]
        words[0] = {"python": sys.executable}.get(words[0], words[0])
        if "train" in " ".join(words[1:4]) and "--help" not in words and "gpu" not in words:
            last_run = clone / "runs" / f"{len(list(clone.glob('runs/*')))}"
            words += [*SHORT, *(["--no-plots"] if last_run.name != "0" else []), "--run-dir", str(last_run)]
        if "gpu" in words:
            continue
        words = [str(last_run) if word.startswith("runs/") and last_run else word for word in words]
        done = subprocess.run(words, cwd=clone, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, (command, done.stderr)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda text: text.strip().splitlines()[0])
def test_every_program_of_the_readme_runs(clone, program):
    short = program.replace('train("fast"', 'train("fast", smoke=True, max_updates=3')
    short = short.replace("max_updates=50", "max_updates=3, smoke=True").replace('"train")', '"train[:512]")')
    done = subprocess.run(
        [sys.executable, "-c", short], cwd=clone, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_table_of_flags_is_that_of_the_configuration():
    assert flag_table() in README


def flag_table():
    """The README's table of flags, from the configuration's own descriptions."""
    import inspect

    source = inspect.getsource(TrainConfig)
    others = [preset for preset in PRESETS if preset != "standard"]
    rows = [
        f"| flag | default | {' | '.join(f'`{name}`' for name in others)} | |",
        "|---" * (len(others) + 2) + "|---|",
    ]
    for field in dataclasses.fields(TrainConfig):
        found = re.search(rf'^    {field.name}: .*\n    """([^"]*)"""', source, re.M)
        assert found, field.name
        description = " ".join(found[1].split())  # on one line, as a row of a table is
        default, *changed = (_shown(getattr(PRESETS[name], field.name)) for name in ("standard", *others))
        shown = " | ".join("" if value == default else value for value in changed)
        rows.append(f"| `--{field.name.replace('_', '-')}` | {default} | {shown} | {description} |")
    return "\n".join(rows)


def _shown(value):
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


if __name__ == "__main__":  # prints the table, to be put into the README
    print(flag_table())
