"""Hostile input for every way into the library: how it is made, and what reads it.

Files that the library wrote are changed byte by byte as in `fuzz_pictures`; where a checksum or a header
would hide what is behind it, it is set right again. Objects of JSON and flags are drawn by Hypothesis. What
comes of it is `mutations`' business.
"""

import contextlib
import dataclasses
import functools
import gzip
import hashlib
import io
import itertools
import json
import re
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import numpy as np

from benchmarks import fuzz_pictures
from jaxdigits import __main__ as command_line
from jaxdigits import config, dataset, loader
from jaxdigits.checkpoint import Model, load_model, save_model
from jaxdigits.errors import DataError
from jaxdigits.joint_snapshot import JointSnapshots
from jaxdigits.mesh import make_mesh
from jaxdigits.model import build
from jaxdigits.optimizer import make_optimizer
from jaxdigits.rows import row_sums
from jaxdigits.snapshot import Record, Snapshot, host_copy, load_snapshot, packed, save_snapshot
from jaxdigits.step import init_state

__all__ = ["READERS", "Reader"]

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
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
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


# Checkpoints.


@functools.cache
def _snapshot() -> Snapshot:
    """That of a small training."""
    params = build((2, 3), 4, 10, form="patches", fixed_stem=True).init(0)
    optimizer = make_optimizer(config.PRESETS["fast"], 10)
    state = host_copy(init_state(params, optimizer))._replace(step=np.array(7, np.int32))
    metrics = {"epoch": 1, "step": 5, "validation_accuracy": 0.5, "validation_loss": 1.5}
    return Snapshot(state, host_copy(params), Record(7, [metrics], metrics, 0.25, {"train": 1.5}, "0" * 64))


@functools.cache
def checkpoint_files(*, joint: bool) -> Files:
    """A small checkpoint, of one process or of several."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if joint:
            _joint(folder).save(_snapshot())()
        else:
            save_snapshot(folder / "last", _snapshot())
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _joint(folder: Path) -> JointSnapshots:
    return JointSnapshots(folder / "last", make_mesh(jax.local_devices()[:1]))


def checkpoint_inputs(count: int, seed: int) -> Iterator[Files]:
    """Mutated files; and records of any values under checksums that are right."""
    from hypothesis import strategies as st

    yield from bytewise(checkpoint_files(joint=False), count // 2, seed)
    good, (tensors, _) = checkpoint_files(joint=False)["last"], packed(_snapshot())
    length = int.from_bytes(good[:8], "little")
    header = json.loads(good[8 : 8 + length])
    fields = st.sampled_from([field.name for field in dataclasses.fields(Record)])
    for values in drawn(st.dictionaries(fields, json_values()), count - count // 2, seed):
        record = json.dumps({"format": 1, **dataclasses.asdict(_snapshot().record)} | values)
        digest = hashlib.sha256(record.encode())
        for tensor in tensors.values():
            digest.update(tensor.tobytes())
        header["__metadata__"] = {"jaxdigits": record, "sha256": digest.hexdigest()}
        text = json.dumps(header).encode()
        yield {"last": len(text).to_bytes(8, "little") + text + good[8 + length :]}


def joint_inputs(count: int, seed: int) -> Iterator[Files]:
    """Checkpoints of which one file is mutated."""
    good = checkpoint_files(joint=True)
    for files in bytewise(good, count, seed):
        yield good | files


def read_checkpoint(files: Files, folder: Path) -> object:
    """Reads the checkpoint of one process."""
    _write(folder, files)
    shapes = _snapshot().state
    return load_snapshot(folder / "last", shapes, shapes.params)


def read_joint(files: Files, folder: Path) -> object:
    """Reads that of several."""
    _write(folder, files)
    shapes = _snapshot().state
    try:
        return _joint(folder).load(shapes, shapes.params)
    except FileNotFoundError as error:
        raise DataError("none") from error


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
    "checkpoint": Reader(checkpoint_inputs, read_checkpoint, 4000, 256),
    "joint": Reader(joint_inputs, read_joint, 400, 1024),
    "pictures": Reader(picture_inputs, read_picture, 4000, fuzz_pictures.MEBIBYTES),
    "pages": Reader(picture_inputs, read_page, 400, fuzz_pictures.MEBIBYTES),
    "flags": Reader(flag_inputs, run_flags, 1600, 256),
    "commands": Reader(command_inputs, run_predict, 400, fuzz_pictures.MEBIBYTES),
}
