"""Checkpoints: what is loaded is what was saved, and whatever else lies there is refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdigits.errors import DataError, StorageError
from jaxdigits.model import build
from jaxdigits.optimizer import make_optimizer
from jaxdigits.presets import resolve
from jaxdigits.snapshot import Record, Snapshot, host_copy, load_snapshot, save_snapshot
from jaxdigits.step import init_state

NETWORK = build((2, 3), 4, 10, form="patches", fixed_stem=True)
PARAMS = NETWORK.init(0)
STATE = host_copy(init_state(PARAMS, make_optimizer(resolve("fast"), 10)))._replace(
    step=np.array(7, np.int32)
)
SHAPES = jax.eval_shape(lambda: STATE)
METRICS = {"epoch": 1, "step": 5, "validation_accuracy": 0.5, "validation_loss": 1.5}
RECORD = Record(7, [METRICS], METRICS, 0.25, {"train": 1.5, "total": 2.0}, "0" * 64)
SNAPSHOT = Snapshot(STATE, host_copy(PARAMS), RECORD)


def load(path: Path) -> Snapshot:
    return load_snapshot(path, SHAPES, SHAPES.params)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A sound checkpoint."""
    path = tmp_path_factory.mktemp("snapshot") / "a"
    assert save_snapshot(path, SNAPSHOT)
    return path.read_bytes()


@pytest.mark.parametrize("best", [True, False])
def test_loaded_is_what_was_saved(tmp_path: Path, best: bool):
    record = RECORD if best else dataclasses.replace(RECORD, best=None)
    saved = Snapshot(STATE, SNAPSHOT.best if best else None, record)
    assert save_snapshot(tmp_path / "a", saved)
    loaded = load(tmp_path / "a")
    assert loaded.record == record
    jax.tree.map(np.testing.assert_array_equal, (loaded.state, loaded.best), (saved.state, saved.best))
    assert jax.tree.structure(loaded.state) == jax.tree.structure(STATE)


def test_a_state_that_is_not_finite_is_not_kept(tmp_path: Path):
    broken = jax.tree.map(np.copy, STATE)
    broken.params["output"]["bias"][3] = np.nan
    assert not save_snapshot(tmp_path / "a", dataclasses.replace(SNAPSHOT, state=broken))
    assert not list(tmp_path.iterdir())


def test_a_host_copy_outlives_what_it_was_made_from():
    update = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)
    tree = {"a": jnp.arange(1000.0)}
    copied = host_copy(tree)
    update(tree)
    assert tree["a"].is_deleted()  # the copy does not keep the device's memory
    np.testing.assert_array_equal(copied["a"], np.arange(1000.0))


def test_none_is_told_apart_from_a_damaged_one(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing")
    for path in (tmp_path, tmp_path / "file"):
        if path != tmp_path:
            path.write_bytes(b"")
        with pytest.raises(DataError) as caught:
            load(path)
        assert "\n" not in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_changed_byte_is_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory, data: Any):
    position = data.draw(st.integers(0, len(content) - 1))
    changed = bytearray(content)
    changed[position] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("changed") / "a"
    path.write_bytes(changed)
    try:
        loaded = load(path)
    except DataError as error:
        assert "\n" not in str(error)  # noqa: PT017 (a change may be of no account, as in a space of the header)
    else:
        jax.tree.map(np.testing.assert_array_equal, loaded.state, STATE)
        assert loaded.record == RECORD


@pytest.mark.parametrize("length", [0, 7, 8, 100, -1])
def test_a_part_of_one_is_refused_with_the_cure(content: bytes, tmp_path: Path, length: int):
    (tmp_path / "a").write_bytes(content[:length])
    with pytest.raises(DataError, match="remove it, and the run resumes from its beginning"):
        load(tmp_path / "a")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("step", 8),
        ("history", [3]),
        ("history", [{"epoch": float("nan")}]),
        ("best", {"epoch": "1"}),
        ("epoch_seconds", "1"),
        ("seconds", []),
        ("data", 3),
    ],
)
def test_a_record_that_is_none_is_refused(tmp_path: Path, field: str, value: Any):
    """Though its checksum is right: whoever made it knew how."""
    save_snapshot(
        tmp_path / "a", dataclasses.replace(SNAPSHOT, record=dataclasses.replace(RECORD, **{field: value}))
    )
    with pytest.raises(DataError):
        load(tmp_path / "a")


def test_the_checkpoint_of_another_network_is_refused(content: bytes, tmp_path: Path):
    (tmp_path / "a").write_bytes(content)
    other = build((2, 3), 5, 10, form="patches", fixed_stem=True)
    state = jax.eval_shape(lambda: init_state(other.init(0), make_optimizer(resolve("fast"), 10)))
    with pytest.raises(DataError, match="another shape"):
        load_snapshot(tmp_path / "a", state, state.params)


def test_where_no_file_can_be_is_a_storage_error(tmp_path: Path):
    with pytest.raises(StorageError, match="cannot write"):
        save_snapshot(tmp_path / "missing" / "a", SNAPSHOT)


def test_the_record_is_readable_by_others(content: bytes):
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert json.loads(header["__metadata__"]["jaxdigits"])["step"] == 7
