"""What the readers make of hostile input: an answer or one line, in a second and in bounded memory.

Claim: of more than 20,000 mutated inputs none ends in an exception that is not one of the documented classes
or, given to a command, in anything but one line and a documented status; none takes longer than `SECONDS`;
and no process takes more memory than its reader's bound above what it has after a good input.

    python -m benchmarks.mutations [--reader idx] [--scale 0.1] [--seed 0]

Files that the library wrote are changed byte by byte as in `fuzz_pictures`; where a checksum or a header
would hide what is behind it, it is set right again. Objects of JSON and flags are drawn by Hypothesis. Each
reader has a process of its own, whose address space is limited: memory that is asked for on the word of a
header fails, used or not. The last line is a JSON object.
"""

import argparse
import contextlib
import gzip
import hashlib
import io
import itertools
import json
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from benchmarks import fuzz_pictures
from benchmarks.__main__ import LEFT_OUT
from benchmarks.protocol import ROOT, save
from jaxdigits import __main__ as command_line
from jaxdigits import config, dataset, loader
from jaxdigits.checkpoint import Model, load_model, save_model
from jaxdigits.errors import DataError, JaxdigitsError
from jaxdigits.model import build
from jaxdigits.rows import row_sums

__all__ = ["READERS", "SECONDS", "Reader", "check"]

SECONDS = 1.0  # for one input
_HANGING = 60.0  # seconds after which an input is given up
_STATUSES = {0, 2, 3}  # with which a command may answer an input
_IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

Files = dict[str, bytes]


class Reader(NamedTuple):
    """One of the ways into the library.

    Attributes:
      inputs: a count and a seed to so many inputs.
      read: reads one, in a folder of its own: raises a `JaxdigitsError` to refuse it.
      full: inputs of the full benchmark.
      mebibytes: of address space beyond that of the process after a good input.
    """

    inputs: Callable[[int, int], Iterable[Any]]
    read: Callable[[Any, Path], object]
    full: int
    mebibytes: int


def bytewise(files: Files, count: int, seed: int) -> Iterator[Files]:
    """So many mutations of one of the files, each under its name."""
    streams = {
        name: fuzz_pictures.mutated([content], count, seed + i)
        for i, (name, content) in enumerate(files.items())
    }
    for name in itertools.islice(itertools.cycle(files), count):
        yield {name: next(streams[name])}


def drawn(strategy: Any, count: int, seed: int) -> list[Any]:
    """So many values of a strategy of Hypothesis."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    found: list[Any] = []
    still = settings(
        max_examples=count, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=[*HealthCheck],  # pyright: ignore[reportArgumentType]
    )  # fmt: skip

    @seeded(seed)
    @still
    @given(strategy)
    def collect(value: Any) -> None:
        found.append(value)

    collect()
    return found


def json_values() -> Any:
    """A strategy for any value of JSON."""
    from hypothesis import strategies as st

    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    return st.recursive(leaves, lambda x: st.lists(x) | st.dictionaries(st.text(), x), max_leaves=5)


# IDX files.


def idx_files() -> Files:
    """A small data set in the four files, plain."""
    random, files = np.random.default_rng(0), {}
    for name in _IDX:
        n = 5 if name.startswith("train") else 3
        array = random.integers(0, 256, (n, 28, 28)) if "images" in name else random.integers(0, 10, n)
        head = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        files[name] = head + array.astype(np.uint8).tobytes()
    return files


def idx_inputs(count: int, seed: int) -> Iterator[Files]:
    """Mutated files: plain, mutated when packed, and packed when mutated."""
    plain = idx_files()
    packed = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in plain.items()}
    yield from bytewise(plain, count // 3, seed)
    yield from bytewise(packed, count // 3, seed + 100)
    for files in bytewise(plain, count - 2 * (count // 3), seed + 200):
        yield {f"{name}.gz": gzip.compress(content, 1, mtime=0) for name, content in files.items()}


def read_idx(files: Files, folder: Path) -> object:
    """Loads a folder with these files, and good ones for the rest."""
    good = {name: content for name, content in idx_files().items() if f"{name}.gz" not in files}
    _write(folder, good | files)
    return dataset.load("mnist", folder)


def _write(folder: Path, files: Files) -> None:
    for path in folder.iterdir():
        path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)


# The cache.


def _summed(files: Files) -> Files:
    sums = {name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in files.items()}
    return files | {"sha256.json": json.dumps(sums).encode()}


def cache_files() -> Files:
    """The arrays of a small data set, as the cache has them, without the checksums."""
    files = {"classes.json": json.dumps(list("0123456789")).encode()}
    for split, n in (("train", 5), ("test", 3)):
        images, labels = np.zeros((n, 784), np.uint8), np.arange(n, dtype=np.uint8)
        files[f"{split}.u8"] = images.tobytes() + labels.tobytes()
        files[f"{split}.sums"] = row_sums(images).tobytes() + row_sums(labels[None]).tobytes()
    return files


def cache_inputs(count: int, seed: int) -> Iterator[Files]:
    """Mutated files under old checksums and under new ones."""
    good = cache_files()
    for files in bytewise(_summed(good), count // 2, seed):
        yield _summed(good) | files
    for files in bytewise(good, count - count // 2, seed + 100):
        yield _summed(good | files)


def read_cache(files: Files, folder: Path) -> object:
    """Reads the arrays, whole and then image by image; what is damaged would be made again."""
    _write(folder, files)
    for on_disk in (False, True):
        found = dataset._read_arrays("mnist", folder, on_disk=on_disk)
        if found is None:
            raise DataError("damaged")
        for split in (found.train, found.test):
            if not 0 < len(split.labels) == len(np.asarray(split.images)) or split.labels.max() > 9:
                raise AssertionError("the arrays contradict each other")
    return files


# Configurations.


def config_inputs(count: int, seed: int) -> Iterator[bytes]:
    """Mutated files of both presets, and objects of any fields and values."""
    from hypothesis import strategies as st

    presets = {name: json.dumps(config.to_json(preset)).encode() for name, preset in config.PRESETS.items()}
    for files in bytewise(presets, count // 2, seed):
        yield from files.values()
    objects = st.dictionaries(
        st.sampled_from([*config.to_json(config.PRESETS["fast"]), "run_dir"]), json_values()
    )
    for fields in drawn(objects, count - count // 2, seed):
        yield json.dumps(fields).encode()


def read_config(content: bytes, folder: Path) -> object:
    """Reads a configuration's file."""
    (folder / "config.json").write_bytes(content)
    return config.to_json(config.from_json(folder / "config.json"))


# Models.


def model_file() -> bytes:
    """A small model, as `save_model` writes it."""
    network, fast = build((2, 3), 4, 10, form="patches"), config.to_json(config.PRESETS["fast"])
    model = Model(
        network.init(0), (2, 3), 4, 5, 0.75, tuple("0123456789"), "mnist", fast, {"test_accuracy": 0.1}
    )
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder) / "model", model)
        return (Path(folder) / "model").read_bytes()


def model_inputs(count: int, seed: int) -> Iterator[bytes]:
    """Mutated files; and whole ones whose metadata have any values."""
    from hypothesis import strategies as st

    good = model_file()
    for files in bytewise({"model": good}, count // 2, seed):
        yield from files.values()
    length = int.from_bytes(good[:8], "little")
    header = json.loads(good[8 : 8 + length])
    about = json.loads(header["__metadata__"]["jaxdigits"])
    odd = json_values() | st.sampled_from(
        [[2, 3], [65_536] * 4, 65_536, 10**30, 1.0, 9, ["0"] * 10, ["\x1b"] * 10]
    )
    for fields in drawn(st.dictionaries(st.sampled_from([*about]), odd), count - count // 2, seed):
        header["__metadata__"]["jaxdigits"] = json.dumps(about | fields)
        text = json.dumps(header).encode()
        yield len(text).to_bytes(8, "little") + text + good[8 + length :]


def read_model(content: bytes, folder: Path) -> object:
    """Loads a model's file."""
    (folder / "model.safetensors").write_bytes(content)
    return load_model(folder)


# Pictures.


def picture_inputs(count: int, seed: int) -> Iterator[bytes]:
    """Mutated pictures of every format."""
    return fuzz_pictures.mutated(fuzz_pictures.originals(), count, seed)


def read_picture(content: bytes, folder: Path) -> object:  # noqa: ARG001
    """Decodes and prepares a picture."""
    (one,) = loader.load(content)
    if one.error is not None:
        raise one.error
    return one


def read_page(content: bytes, folder: Path) -> object:  # noqa: ARG001
    """Reads all the digits of a picture, with the packaged model."""
    from jaxdigits.reading import read

    return read(content).text


# Commands.


def flag_inputs(count: int, seed: int) -> list[list[str]]:
    """Flags of both commands, some misspelt, with values of any kind."""
    from hypothesis import strategies as st

    names = [
        f"--{name.replace('_', '-')}" for name in (*config.to_json(config.PRESETS["fast"]), "config", "quiet")
    ]
    names += ["--model", "--json", "--invert", "--raw", "--number", "--show-preprocessed"]
    flags = st.sampled_from(names)
    misspelt = st.builds(lambda name, i: name[:i] + name[i + 1 :], flags, st.integers(3, 9))
    value = st.sampled_from(["0", "1", "-1", "fast", "nan", "inf", "1e999", "\x1b[2J", "~x/y", "", "a" * 999])
    value |= (
        st.integers().map(str) | st.floats().map(str) | st.text(max_size=9).filter(lambda x: x != "--help")
    )
    word = flags | flags | misspelt | value | value | st.builds("{}={}".format, flags, value)
    return drawn(
        st.builds(lambda c, w: [c, *w], st.sampled_from(["train", "predict"]), st.lists(word)), count, seed
    )


def run_flags(arguments: list[str], folder: Path) -> object:
    """Runs a command up to the point where its work would begin."""

    def begun(*_: object, **__: object) -> None:
        raise DataError("begun")

    with (
        mock.patch("jaxdigits.training.train", begun),
        mock.patch("jaxdigits.device.select", begun),
        contextlib.chdir(folder),
    ):
        error = run_command(arguments)
        if list(folder.iterdir()):
            raise AssertionError("something was written before the flags were known to be right")
    if "begun" not in error:
        raise DataError(error)
    return error


def command_inputs(count: int, seed: int) -> Iterator[Files]:
    """A picture or a model that is mutated, beside one that is good."""
    pictures = fuzz_pictures.originals()
    good = {"picture": pictures[0], "model": model_file()}
    mutated = fuzz_pictures.mutated(pictures, count, seed)
    models = fuzz_pictures.mutated([good["model"]], count, seed)
    for i in range(count):
        yield good | ({"picture": next(mutated)} if i % 2 else {"model": next(models)})


def run_predict(files: Files, folder: Path) -> object:
    """Runs `predict` on the files."""
    _write(folder, files)
    error = run_command(["predict", str(folder / "picture"), "--model", str(folder / "model")])
    if error:
        raise DataError(error)
    return error


def run_command(arguments: list[str]) -> str:
    """What a command says on standard error, if that and its exit are as they should be."""
    output, error, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(error):
        try:
            command_line.main(arguments)
        except SystemExit as stop:
            status = stop.code or 0
    text = error.getvalue()
    lines = text.split("\n")[:-1]
    good = all(re.fullmatch(r"jaxdigits: [^\x00-\x1f\x7f-\x9f]+", line) for line in lines)
    good &= not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", output.getvalue())
    if status not in _STATUSES or not good or bool(status) > len(lines) or len(lines) > 2:
        raise AssertionError(f"status {status}, {text!r}")
    return text if status else ""


READERS: dict[str, Reader] = {
    "idx": Reader(idx_inputs, read_idx, 4000, 256),
    "cache": Reader(cache_inputs, read_cache, 4000, 256),
    "config": Reader(config_inputs, read_config, 4000, 256),
    "model": Reader(model_inputs, read_model, 4000, 256),
    "pictures": Reader(picture_inputs, read_picture, 4000, fuzz_pictures.MEBIBYTES),
    "pages": Reader(picture_inputs, read_page, 400, fuzz_pictures.MEBIBYTES),
    "flags": Reader(flag_inputs, run_flags, 1600, 256),
    "commands": Reader(command_inputs, run_predict, 400, fuzz_pictures.MEBIBYTES),
}


def check(name: str, count: int, seed: int = 0, *, limited: bool = False) -> dict[str, Any]:
    """Gives a reader so many inputs, and tells what came of them.

    Args:
      name: of the reader.
      count: inputs.
      seed: of the mutations.
      limited: limit this process's address space, once it has read something; not to be undone.

    Returns:
      Numbers of `inputs`, those `read` and `refused`; `offences`, of which there should be none, each with
      the `input`'s number; seconds; and, in MiB, how much the peak of memory `grew`.
    """
    reader, outcomes, offences = READERS[name], Counter[str](), []
    slowest, total, before, inputs = 0.0, 0.0, 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        # The first inputs warm up: imports, compiled programs. They count, but not their time and memory.
        warm = len(warming := list(itertools.islice(iter(reader.inputs(20, seed + 1)), 20)))
        for index, item in enumerate(itertools.chain(warming, reader.inputs(count, seed))):
            inputs = index + 1
            if index == warm:
                before = _peak()
                if limited:
                    _limit(reader.mebibytes)
            started = time.perf_counter()
            try:
                with _given_up_after(_HANGING):
                    reader.read(item, Path(folder))
                outcomes["read"] += 1
            except JaxdigitsError as error:
                outcomes["refused"] += 1
                if "\n" in str(error).strip():
                    offences.append({"input": index, "error": str(error)})
            except BaseException as error:  # what must never happen is what is looked for
                if isinstance(error, KeyboardInterrupt):
                    raise
                offences.append({"input": index, "error": repr(error)[:500]})
            seconds = time.perf_counter() - started
            if index >= warm:
                slowest, total = max(slowest, seconds), total + seconds
                if seconds > SECONDS:
                    offences.append({"input": index, "error": f"{seconds:.2f} s"})
    return {
        "reader": name,
        "inputs": inputs,
        "read": outcomes["read"],
        "refused": outcomes["refused"],
        "offences": offences[:20],
        "mean_seconds": round(total / count, 5),
        "slowest_seconds": round(slowest, 3),
        "grew_mebibytes": round(_peak() - before, 1),
        "bound_mebibytes": reader.mebibytes,
    }


def _peak() -> float:
    """Peak of this process's memory, in MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _limit(mebibytes: int) -> None:
    """Leaves this process so much address space beyond what it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * os.sysconf("SC_PAGE_SIZE") + mebibytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


@contextlib.contextmanager
def _given_up_after(seconds: float) -> Iterator[None]:
    """Raises `TimeoutError` where what is inside takes longer."""

    def late(*_: object) -> None:
        raise TimeoutError(f"given up after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def alone(name: str, count: int, seed: int) -> dict[str, Any]:
    """`check` in a process of its own; where that dies, that is the offence."""
    command = [sys.executable, "-m", "benchmarks.mutations", "--child", "--reader", name]
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(  # noqa: S603
            [*command, "--count", str(count), "--seed", str(seed)],
            cwd=ROOT,
            env={**os.environ, "JAXDIGITS_CACHE": cache},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        end = (done.stderr or "").strip().rpartition("\n")[2]
        return {"reader": name, "inputs": 0, "offences": [{"error": f"status {done.returncode}: {end}"}]}
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Runs the readers, one process each, prints and saves the figures, and fails where the claim does."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--reader", choices=READERS, action="append", help="this one only; may be repeated")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full number of inputs")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=0, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    try:
        import hypothesis  # noqa: F401
    except ImportError:
        print("benchmarks.mutations draws from Hypothesis; install jaxdigits[test]")
        sys.exit(LEFT_OUT)
    if flags.child:
        print(json.dumps(check(flags.reader[0], flags.count, flags.seed, limited=sys.platform == "linux")))
        return
    runs = []
    for name in flags.reader or READERS:
        runs.append(alone(name, max(1, round(READERS[name].full * flags.scale)), flags.seed))
        print(json.dumps(runs[-1]), flush=True)
    inputs, offences = sum(run["inputs"] for run in runs), sum(len(run["offences"]) for run in runs)
    summary = {"inputs": inputs, "offences": offences, "seconds_bound": SECONDS, "seed": flags.seed}
    if not flags.reader:
        save("mutations", runs, inputs, **summary)
    print(json.dumps(summary))
    if offences:
        sys.exit(1)


if __name__ == "__main__":
    main()
