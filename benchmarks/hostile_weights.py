"""Hostile models and checkpoints: mutated files, and whole ones that hold any values."""

import dataclasses
import functools
import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from benchmarks.mutants import Files, bytewise, drawn, json_values, write
from jaxdigits.checkpoint import Model, load_model, save_model
from jaxdigits.config import to_json
from jaxdigits.errors import DataError
from jaxdigits.joint_snapshot import JointSnapshots
from jaxdigits.mesh import make_mesh
from jaxdigits.model import build
from jaxdigits.optimizer import make_optimizer
from jaxdigits.presets import PRESETS
from jaxdigits.snapshot import Record, Snapshot, host_copy, load_snapshot, packed, save_snapshot
from jaxdigits.step import init_state

__all__ = [
    "checkpoint_inputs",
    "joint_inputs",
    "model_file",
    "model_inputs",
    "read_checkpoint",
    "read_joint",
    "read_model",
]


# Models.


def model_file() -> bytes:
    """A small model, as `save_model` writes it."""
    network, fast = build((2, 3), 4, 10, form="patches"), to_json(PRESETS["fast"])
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
    optimizer = make_optimizer(PRESETS["fast"], 10)
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
    good, (tensors, metadata) = checkpoint_files(joint=False)["last"], packed(_snapshot())
    length = int.from_bytes(good[:8], "little")
    header = json.loads(good[8 : 8 + length])
    fields = st.sampled_from([field.name for field in dataclasses.fields(Record)])
    for values in drawn(st.dictionaries(fields, json_values()), count - count // 2, seed):
        record = json.dumps(json.loads(metadata["jaxdigits"]) | values)
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
    write(folder, files)
    shapes = _snapshot().state
    return load_snapshot(folder / "last", shapes, shapes.params)


def read_joint(files: Files, folder: Path) -> object:
    """Reads that of several."""
    write(folder, files)
    shapes = _snapshot().state
    try:
        return _joint(folder).load(shapes, shapes.params)
    except FileNotFoundError as error:
        raise DataError("none") from error
