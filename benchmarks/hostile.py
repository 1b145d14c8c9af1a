"""Hostile input for every way into the library: how it is made, and what reads it.

Files that the library wrote are changed byte by byte as in `fuzz_pictures`; where a checksum or a header
would hide what is behind it, it is set right again. Objects of JSON and flags are drawn by Hypothesis
(`mutants`). Models and checkpoints are in `hostile_weights`. What comes of it is `mutations`' business.
"""

import contextlib
import gzip
import hashlib
import io
import json
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple
from unittest import mock

import numpy as np

from benchmarks import fuzz_pictures
from benchmarks.hostile_weights import (
    checkpoint_inputs,
    joint_inputs,
    model_file,
    model_inputs,
    read_checkpoint,
    read_joint,
    read_model,
)
from benchmarks.mutants import Files, bytewise, drawn, json_values, write
from jaxdigits import __main__ as command_line
from jaxdigits import config, dataset, loader
from jaxdigits.errors import DataError
from jaxdigits.presets import PRESETS, from_json
from jaxdigits.rows import row_sums

__all__ = ["READERS", "Reader", "ReaderName"]

_STATUSES = {0, 2, 3}  # with which a command may answer an input
_IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


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
    write(folder, good | files)
    return dataset.load("mnist", folder)


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
    write(folder, files)
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

    presets = {name: json.dumps(config.to_json(preset)).encode() for name, preset in PRESETS.items()}
    for files in bytewise(presets, count // 2, seed):
        yield from files.values()
    objects = st.dictionaries(st.sampled_from([*config.to_json(PRESETS["fast"]), "run_dir"]), json_values())
    for fields in drawn(objects, count - count // 2, seed):
        yield json.dumps(fields).encode()


def read_config(content: bytes, folder: Path) -> object:
    """Reads a configuration's file."""
    (folder / "config.json").write_bytes(content)
    return config.to_json(from_json(folder / "config.json"))


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

    names = [f"--{name.replace('_', '-')}" for name in (*config.to_json(PRESETS["fast"]), "config", "quiet")]
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
    write(folder, files)
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


ReaderName = Literal[
    "idx", "cache", "config", "model", "checkpoint", "joint", "pictures", "pages", "flags", "commands"
]
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
