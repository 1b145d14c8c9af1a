"""Which run to go on with, and whether it may be gone on with. Reads folders, and writes nothing."""

import contextlib
import dataclasses
import json
from pathlib import Path

from jaxdigits.config import TrainConfig, differences
from jaxdigits.errors import DataError, UsageError
from jaxdigits.lock import is_locked
from jaxdigits.presets import from_json

__all__ = ["CONFIG_FILE", "SUMMARY_FILE", "begun_with", "check", "ended", "find", "is_run"]

CONFIG_FILE = "config.json"  # a folder that has it is a run
SUMMARY_FILE = "summary.json"  # a run that has it has ended


def is_run(folder: Path) -> bool:
    """Whether a run was begun in a folder."""
    with contextlib.suppress(OSError, ValueError):
        return (folder / CONFIG_FILE).is_file()
    return False


def ended(folder: Path) -> str | None:
    """Why a run has ended, as its summary says; None if it has not.

    Raises:
      DataError: its summary cannot be understood.
    """
    file = folder / SUMMARY_FILE
    try:
        reason = json.loads(file.read_text("utf-8"))["ended"]
        if not isinstance(reason, str):
            raise TypeError("no reason is given")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise DataError(f"{file} is no summary of a run: {error}") from error
    return " ".join(reason.split())


def find(resume: str, run_dir: str | None) -> Path | None:
    """The folder of the run that `--resume` means.

    Args:
      resume: a run folder; or `auto` for the one in `run_dir`, else the newest run under `runs/` that has
        not ended and that no process is at work on.
      run_dir: as in the configuration.

    Returns:
      None for a new run: `auto` with a `run_dir` that holds none yet.

    Raises:
      UsageError: there is no such run.
    """
    if resume != "auto":
        if run_dir is not None and Path(run_dir) != Path(resume):
            raise UsageError("--resume RUN goes on in that run's folder; leave out --run-dir")
        if not is_run(Path(resume)):
            raise UsageError(f"--resume {resume}: there is no run in that folder")
        return Path(resume)
    if run_dir is not None:
        return Path(run_dir) if is_run(Path(run_dir)) else None
    try:
        begun = {
            path: (path / CONFIG_FILE).stat().st_mtime_ns for path in Path("runs").iterdir() if is_run(path)
        }
    except OSError:
        begun = {}
    for path in sorted(begun, key=begun.__getitem__, reverse=True):
        if not (path / SUMMARY_FILE).exists() and not is_locked(path):
            return path
    raise UsageError(
        "--resume auto: there is no interrupted run under runs/; name one, or leave out --resume"
    )


def begun_with(folder: Path) -> TrainConfig:
    """The configuration that a run was begun with, to go on with.

    Raises:
      UsageError: its `config.json` cannot be read.
    """
    return dataclasses.replace(from_json(folder / CONFIG_FILE), resume=str(folder))


def check(folder: Path, config: TrainConfig) -> None:
    """Finds out whether a run can go on under a configuration: the one it was begun with, or more epochs.

    Raises:
      UsageError: it cannot: another field differs, or the run has ended.
    """
    begun = from_json(folder / CONFIG_FILE)
    differing = differences(begun, config)
    extends = differing == ["epochs"] and config.epochs > begun.epochs
    if differing and not extends:
        name = next((name for name in differing if name != "epochs"), "epochs")
        flag, now, before = f"--{name.replace('_', '-')}", getattr(config, name), getattr(begun, name)
        raise UsageError(
            f"{flag} is {now!r}, but the run {folder} was begun with {before!r}; "
            "only more --epochs can be asked of a run, all else begins a new one"
        )
    reason = ended(folder)
    if reason not in (None, "time limit") and not extends:
        raise UsageError(
            f"the run {folder} has ended ({reason}); more --epochs than {begun.epochs:g} extend it"
        )
