"""Whether a training survives its disk: each file operation of a run fails once, one at a time.

Claim: whichever operation fails, and however (no space left, an input/output error, permission denied, a
write cut short), the command ends as if nothing had happened, or with one line and the status of its error;
and then the run resumes and ends, bit for bit, like one that was left alone. A run that has just begun is
tried, and one that goes on after an interruption.

The operations are those of Python on files in the run folder: open, write, flush to the disk, rename,
remove, make, list, change mode. They are counted in a run without faults; then operation 1 fails, and so on.

    python -m benchmarks.faults [--every 1] [--kinds enospc eio eacces short]
"""

import builtins
import contextlib
import dataclasses
import errno
import io
import os
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

import tyro

from benchmarks import protocol
from benchmarks.flags import Count
from benchmarks.kills import outcome
from jaxdigits import child, dataset, saver
from jaxdigits.__main__ import main as command
from jaxdigits.last_snapshot import LAST_FILE
from jaxdigits.presets import resolve
from jaxdigits.resume import SUMMARY_FILE
from jaxdigits.training import train

Kind = Literal["enospc", "eio", "eacces", "short"]
KINDS: dict[Kind, int] = {
    "enospc": errno.ENOSPC,
    "eio": errno.EIO,
    "eacces": errno.EACCES,
    "short": errno.ENOSPC,
}
Scenario = Literal["begun", "resumed"]
_BY_PATH = ("open", "replace", "rename", "unlink", "remove", "mkdir", "chmod", "listdir", "scandir")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Has each file operation of a run fail, resumes, and compares how it ends."""

    every: Count = 1
    """Tries only each so-manieth operation, for a short form."""
    kinds: tuple[Kind, ...] = get_args(Kind)
    """The ways to fail."""
    scenarios: tuple[Scenario, ...] = get_args(Scenario)
    """A run that has just begun, one that goes on after an interruption."""


class Faults:
    """Has one operation on the files in a folder fail, and counts them all.

    Args:
      folder: the folder, with all that is in it.
      at: the number of the operation, from 1; 0 for none.
      kind: the way to fail.
    """

    def __init__(self, folder: Path, at: int = 0, kind: Kind = "eio"):
        self.folder, self.at = os.path.abspath(folder), at  # noqa: PTH100 (not to be patched)
        self.kind: Kind = kind
        self.count, self.failed = 0, ""
        self._ours: set[int] = set()  # open files of the folder
        self._lock = threading.Lock()

    def concerns(self, path: Any) -> bool:
        """Whether a path, or an open file, is in the folder."""
        if isinstance(path, int):
            return path in self._ours
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        return os.path.abspath(os.fsdecode(path)).startswith(self.folder)  # noqa: PTH100

    def step(self, name: str, path: Any) -> bool:
        """Counts an operation; True if a write is to be cut short, otherwise raises if it is to fail."""
        with self._lock:
            self.count += 1
            now = self.count == self.at
        if now:
            self.failed = f"{name} {path if isinstance(path, int) else os.path.basename(os.fsdecode(path))}"  # noqa: PTH119
            if self.kind == "short" and name == "write":
                return True
            raise OSError(KINDS[self.kind], os.strerror(KINDS[self.kind]))
        return False

    @contextlib.contextmanager
    def injected(self) -> Iterator[None]:
        """Puts itself between Python and the system."""
        before = {name: getattr(os, name) for name in (*_BY_PATH, "fsync", "close")}
        plain = io.open

        def guarded(name: str) -> Callable[..., Any]:
            def call(path: Any = ".", *arguments: Any, **options: Any) -> Any:
                if self.concerns(path):
                    self.step(name, path)
                result = before[name](path, *arguments, **options)
                if name == "open":
                    (self._ours.add if self.concerns(path) else self._ours.discard)(result)
                return result

            return call

        def opened(file: Any, mode: str = "r", buffering: int = -1, *arguments: Any, **options: Any) -> Any:
            if not self.concerns(file):
                return plain(file, mode, buffering, *arguments, **options)
            if not isinstance(file, int):
                self.step("open", file)
            if not set(mode) & set("wax+"):
                return plain(file, mode, buffering, *arguments, **options)
            raw = _Raw(self, file, mode.replace("b", ""))
            self._ours.add(raw.fileno())
            stream = io.BufferedWriter(raw)
            return stream if "b" in mode else io.TextIOWrapper(stream, *arguments, **options)

        try:
            for name in (*_BY_PATH, "fsync"):
                setattr(os, name, guarded(name))
            io.open = builtins.open = opened
            yield
        finally:
            for name, function in before.items():
                setattr(os, name, function)
            io.open = builtins.open = plain


class _Raw(io.FileIO):
    """An open file whose writes are counted, and fail or fall short."""

    def __init__(self, faults: Faults, file: Any, mode: str):
        super().__init__(file, mode)
        self._faults, self._file, self._full = faults, file, False

    def write(self, content: Any, /) -> int:
        if self._full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self._faults.step("write", self._file):  # half of it fits, and then the disk is full
            self._full = True
            return super().write(memoryview(content)[: max(1, len(content) // 2)])
        return super().write(content)


def refused(module: str, **_: str) -> NoReturn:
    """Starts no process: figures are then drawn in this one, where the faults are."""
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), module)


def small_set(folder: Path) -> None:
    """Writes the first 1,500 training and 500 test images of MNIST as IDX files."""
    data = dataset.load()
    folder.mkdir()
    for stem, split, n in (("train", data.train, 1500), ("t10k", data.test, 500)):
        for name, array in (("images-idx3", split.images[:n, :, :, 0]), ("labels-idx1", split.labels[:n])):
            sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
            head = bytes([0, 0, 8, array.ndim]) + sizes
            (folder / f"{stem}-{name}-ubyte").write_bytes(head + array.astype("uint8").tobytes())


def flags(folder: Path, run: Path) -> list[str]:
    """The training, begun or gone on with in a folder."""
    fields = ["--quiet", "--preset", "fast", "--epochs", "3", "--validation", "300", "--max-shift", "1"]
    return ["train", *fields, "--data-dir", str(folder / "digits"), "--run-dir", str(run), "--resume", "auto"]


def execute(arguments: Sequence[str]) -> tuple[int, str]:
    """Runs a command in this process: its status and what it says on standard error, tracebacks and all."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            command(arguments)
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
        except BaseException:  # which is what this looks for
            traceback.print_exc()
            status = -1
    return status, said.getvalue()


def attempt(folder: Path, begun: Path | None, at: int, kind: Kind) -> tuple[dict[str, Any], Path]:
    """A run with one fault, and then resumed without.

    Args:
      folder: to work in.
      begun: a run to go on with, or None.
      at: which operation fails.
      kind: how.
    """
    run = folder / "attempt" / "run"
    shutil.rmtree(run.parent, ignore_errors=True)
    run.parent.mkdir()
    if begun:
        shutil.copytree(begun, run)
    faults = Faults(run, at, kind)
    with faults.injected():
        status, said = execute(flags(folder, run))
    one_line = said.startswith("jaxdigits: ") and said.count("\n") == 1
    record = {"at": at, "kind": kind, "operation": faults.failed, "operations": faults.count}
    record |= {"status": status, "said": said.strip().replace(str(folder), ""), "kept": True}
    record["fine"] = said == "" if status == 0 else (status in (2, 3, 6) and one_line)
    if begun:
        record["kept"] = (run / LAST_FILE).exists()
    if status != 0:
        again, said = execute(flags(folder, run))
        ended = "has ended" in said and again == 2  # the fault came after the end
        record |= {"resumed": 0 if ended else again, "said_then": said.strip().replace(str(folder), "")}
    return record, run


def main(arguments: Arguments) -> None:
    """Tries all, prints and saves; exits with 1 if anything was lost."""
    saver._GAP = (
        0.0  # a checkpoint at each epoch, however short: so that the operations are the same each time
    )
    child.start = refused
    lost = False
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        small_set(folder / "digits")
        whole = folder / "whole"
        if execute(flags(folder, whole))[0]:
            raise RuntimeError("the training fails without a fault")
        expected = outcome(whole)
        for scenario in arguments.scenarios:
            start = _interrupted(folder) if scenario == "resumed" else None
            total = attempt(folder, start, 0, "eio")[0]["operations"]
            print(f"{scenario}: {total} operations", flush=True)
            records: list[dict[str, Any]] = []
            for kind in arguments.kinds:
                for at in range(1, total + 1, arguments.every):
                    record, run = attempt(folder, start, at, kind)
                    record["identical"] = record.get("resumed", 0) == 0 and outcome(run) == expected
                    records.append(record)
                    if not _good(record):
                        print(record, flush=True)
            lost |= not all(map(_good, records))
            summary = _summary(scenario, records)
            print(summary)
            print(protocol.save(f"faults-{scenario}", records, len(records), summary))
    sys.exit(lost)


def _good(record: dict[str, Any]) -> bool:
    """Whether nothing was lost, and all was said as it should be."""
    return record["fine"] and record["kept"] and record["identical"]


def _summary(scenario: str, records: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "scenario": scenario,
        "faults": len(records),
        "good": sum(map(_good, records)),
        "unnoticed": sum(record["status"] == 0 for record in records),
        "one_line": sum(record["status"] != 0 and record["fine"] for record in records),
        "identical": sum(record["identical"] for record in records),
    }


def _interrupted(folder: Path) -> Path:
    """The same training, interrupted after its first epoch."""
    run = folder / "begun"
    fields = {"epochs": 3, "validation": 300, "max_shift": 1.0, "data_dir": str(folder / "digits")}
    with contextlib.suppress(KeyboardInterrupt):
        train(
            resolve("fast", run_dir=str(run), **fields),
            on_epoch=lambda _: signal.raise_signal(signal.SIGTERM),  # Ctrl-C is ignored in the background
        )
    if not (run / LAST_FILE).exists() or (run / SUMMARY_FILE).exists():
        raise RuntimeError("the training was not interrupted")
    return run


if __name__ == "__main__":
    main(tyro.cli(Arguments))
