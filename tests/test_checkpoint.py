"""Model files: what is loaded is what was saved, and whatever else lies there is refused, not run."""

import dataclasses
import functools
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load as load_tensors

from jaxdigits import checkpoint
from jaxdigits.checkpoint import MODEL_FILE, Model, load_model, save_model
from jaxdigits.config import to_json
from jaxdigits.errors import DataError, StorageError
from jaxdigits.model import build
from jaxdigits.presets import PRESETS
from jaxdigits.training import TrainResult

CHANNELS, HIDDEN, NAMES = (2, 3), 4, tuple("0123456789")


@functools.cache
def initial_shapes(channels: tuple[int, ...], hidden: int, outputs: int = 10) -> Any:
    """The parameters of a fresh network, as shapes."""
    return build(channels, hidden, outputs, form="direct").shapes


def untrained(
    channels: tuple[int, ...] = CHANNELS,
    hidden: int = HIDDEN,
    seed: int = 0,
    views: int = 5,
    none_class: bool = False,
    threshold: float | None = None,
) -> Model:
    random = np.random.default_rng(seed)
    shapes = initial_shapes(channels, hidden, 10 + none_class)
    params = jax.tree.map(lambda leaf: random.standard_normal(leaf.shape, np.float32), shapes)
    config, figures = to_json(PRESETS["fast"]), {"test_accuracy": 0.1, "test_total": 10}
    about = NAMES, "mnist", config, figures
    return Model(params, channels, hidden, views, 0.75, *about, none_class, threshold)


def saved(model: Model) -> bytes:
    """The content of the file that `save_model` makes of a model."""
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder) / MODEL_FILE, model)
        return (Path(folder) / MODEL_FILE).read_bytes()


SMALL = saved(untrained())
SHAPES = {name: tensor.shape for name, tensor in load_tensors(SMALL).items()}


def load(content: bytes) -> Model:
    """What `load_model` makes of a file with this content."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / MODEL_FILE).write_bytes(content)
        return load_model(folder)


def refused(content: bytes) -> str:
    """The one line with which a file of this content is refused."""
    with pytest.raises(DataError) as caught:
        load(content)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def refused_or_sound(content: bytes) -> None:
    """A file may be refused, or taken for a model that can be used."""
    model, message = None, ""
    try:
        model = load(content)
    except DataError as error:
        message = str(error)
    assert "\n" not in message
    if model is None:
        return
    same_structure(model.params, initial_shapes(model.channels, model.hidden, 10 + model.none_class))
    assert model.threshold is None or np.isfinite(model.threshold)
    assert len(model.class_names) == 10
    assert type(model.views) is int
    assert model.views in (1, 5, 9)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(model.params))


def same_structure(params: Any, expected: Any) -> None:
    assert jax.tree.structure(params) == jax.tree.structure(expected)
    for leaf, like in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
        assert (leaf.shape, leaf.dtype) == (like.shape, like.dtype)


def with_header(change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The small model with another header: `change` edits it, or returns one to put in its place."""
    length = int.from_bytes(SMALL[:8], "little")
    header = json.loads(SMALL[8 : 8 + length])
    header = change(header) or header
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + SMALL[8 + length :]


def with_about(**fields: Any) -> bytes:
    """The small model with some fields of its metadata replaced; `...` takes one out."""

    def change(header: dict[str, Any]) -> None:
        about = json.loads(header["__metadata__"]["jaxdigits"]) | fields
        about = {name: value for name, value in about.items() if value is not ...}
        header["__metadata__"]["jaxdigits"] = json.dumps(about)

    return with_header(change)


# What is saved is loaded.


@pytest.mark.parametrize(
    ("channels", "views", "none_class", "threshold"),
    [
        ((2, 3), 1, False, None),
        ((16, 32), 5, True, None),
        ((3, 5, 2), 9, False, -0.1),
        ((4, 3, 2, 1), 1, True, 4.25),
    ],
)
def test_loaded_is_what_was_saved(
    channels: tuple[int, ...], views: int, none_class: bool, threshold: float | None, tmp_path: Path
):
    model = untrained(channels, 7, seed=3, views=views, none_class=none_class, threshold=threshold)
    save_model(tmp_path / "a.safetensors", model)
    loaded = load_model(tmp_path / "a.safetensors")
    same_structure(loaded.params, model.params)
    for ours, theirs in zip(jax.tree.leaves(loaded.params), jax.tree.leaves(model.params), strict=True):
        assert ours.tobytes() == np.asarray(theirs).tobytes()
    for field in dataclasses.fields(Model):
        if field.name != "params":
            assert getattr(loaded, field.name) == getattr(model, field.name)
    assert saved(loaded) == saved(model)


def test_a_training_leaves_the_model_that_it_returns(tiny_run: TrainResult):
    loaded = load_model(tiny_run.run_dir)
    assert saved(loaded) == saved(tiny_run.model) == (tiny_run.run_dir / MODEL_FILE).read_bytes()
    assert loaded.config == json.loads((tiny_run.run_dir / "config.json").read_text())
    summary = json.loads((tiny_run.run_dir / "summary.json").read_text())
    assert loaded.figures == {name: summary[name] for name in loaded.figures}
    assert loaded.class_names == NAMES


def test_a_model_on_a_device_is_saved_like_one_in_memory():
    model = untrained()
    on_device = dataclasses.replace(model, params=jax.tree.map(jnp.asarray, model.params))
    assert saved(on_device) == saved(model)


def test_parameters_have_the_structure_of_fresh_ones(tiny_run: TrainResult):
    loaded = load_model(tiny_run.run_dir)
    same_structure(loaded.params, initial_shapes(loaded.channels, loaded.hidden))
    assert isinstance(loaded.params, dict)


def test_saving_replaces_the_file_and_leaves_nothing_else(tmp_path: Path):
    for seed in (1, 2):
        save_model(tmp_path / MODEL_FILE, untrained(seed=seed))
        assert list(tmp_path.iterdir()) == [tmp_path / MODEL_FILE]
        assert (tmp_path / MODEL_FILE).read_bytes() == saved(untrained(seed=seed))


def test_where_no_file_can_be_is_a_storage_error(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"kept")
    (tmp_path / "folder").mkdir()
    for path in ("missing/a.safetensors", "file/a.safetensors", "folder"):
        with pytest.raises(StorageError, match="cannot write") as caught:
            save_model(tmp_path / path, untrained())
        assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "file").read_bytes() == b"kept"


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="nothing is forbidden to this user")
def test_a_folder_that_must_not_be_written_is_a_storage_error(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="cannot write"):
        save_model(tmp_path / MODEL_FILE, untrained())


# What is not a model is refused.


def test_no_model_is_a_data_error(tmp_path: Path):
    for path in (tmp_path, tmp_path / "missing", "nul\0"):
        with pytest.raises(DataError) as caught:
            load_model(path)
        assert "\n" not in str(caught.value)


@settings(max_examples=300)
@given(st.integers(0, len(SMALL) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_leaves_a_sound_model(position: int, difference: int):
    content = bytearray(SMALL)
    content[position] ^= difference
    refused_or_sound(bytes(content))


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 255)), min_size=2, max_size=9))
def test_changed_bytes_of_the_header_are_refused_or_leave_a_sound_model(changes: list[tuple[int, int]]):
    content = bytearray(SMALL)
    for position, value in changes:
        content[position] = value
    refused_or_sound(bytes(content))


@given(st.integers(0, len(SMALL) - 1))
def test_a_cut_file_is_refused(length: int):
    refused(SMALL[:length])


@given(st.binary(min_size=1, max_size=99))
def test_a_file_with_more_behind_it_is_refused(more: bytes):
    refused(SMALL + more)


@given(st.binary(max_size=200))
def test_any_other_file_is_refused(content: bytes):
    refused(content)
    refused(len(content).to_bytes(8, "little") + content)


@pytest.mark.parametrize("length", [0, 1, len(SMALL) - 8, len(SMALL), 10**8, 2**31, 2**63, 2**64 - 1])
def test_a_header_that_lies_about_its_length_is_refused(length: int):
    refused(length.to_bytes(8, "little") + SMALL[8:])


@pytest.mark.parametrize("shape", [[], [0], [1], [-1], [4.0], ["4"], [2**62, 2**62], [2**64], None, 4])
def test_a_header_that_lies_about_a_shape_is_refused(shape: Any):
    refused(with_header(lambda header: header["hidden.bias"].update(shape=shape)))


@pytest.mark.parametrize("offsets", [[0, 0], [0, 16], [16, 0], [0, 2**60], [-16, 0], [0.0, 16.0], [], None])
def test_a_header_that_lies_about_a_place_is_refused(offsets: Any):
    name = list(SHAPES)[1]
    refused(with_header(lambda header: header[name].update(data_offsets=offsets)))


@pytest.mark.parametrize("dtype", ["I32", "U32", "F16", "BF16", "F64", "F8_E4M3", "BOOL", "F99", "", None, 3])
def test_a_weight_of_another_type_is_refused(dtype: Any):
    refused(with_header(lambda header: header["hidden.bias"].update(dtype=dtype)))


def test_a_missing_or_unknown_weight_is_refused():
    def rename(header: dict[str, Any]) -> None:
        header["other.bias"] = header.pop("hidden.bias")

    assert "bias" in refused(with_header(rename))
    assert "convs.2" in refused(with_about(channels=[2, 3, 3]))


@pytest.mark.parametrize(
    "metadata",
    [..., None, 3, [], {}, {"jaxdigits": 3}, *({"jaxdigits": text} for text in ("", "{", "[]", "3", "{}"))],
)
def test_missing_metadata_are_refused(metadata: Any):
    def change(header: dict[str, Any]) -> None:
        del header["__metadata__"]
        if metadata is not ...:
            header["__metadata__"] = metadata

    refused(with_header(change))


def test_deeply_nested_metadata_are_refused():
    refused(with_header(lambda header: header["__metadata__"].update(jaxdigits="[" * 100_000)))


@pytest.mark.parametrize(
    "channels",
    [
        *(..., None, 2, "23", {"2": 3}, [], [2], [3, 2], [2, 4], [2, 3, 3], [2] * 5, [0, 3], [-2, 3]),
        *([2.0, 3.0], [True, 3], ["2", "3"], [[2], 3], [65_536] * 4, [2**70, 3]),
    ],
)
def test_channels_other_than_the_weights_are_refused(channels: Any):
    refused(with_about(channels=channels))


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("format", [..., None, 0, 3, "2", [2]]),
        ("hidden", [..., None, 0, -4, 5, 4.0, True, "4", [4], 65_536, 2**70]),
        ("temperature", [..., None, 0.0, -1.0, 1, True, "1", 1e9, float("nan")]),
        ("views", [..., None, 0, -1, 2, 10, 5.0, True, "5", [5], 2**70]),
        ("class_names", [..., None, [], ["0"], NAMES[:9], [*NAMES, "10"], list(range(10)), [None] * 10, 10]),
        ("dataset", [...]),
        ("none_class", [..., None, 0, 1, "no", [], True]),  # True: the weights are those of ten outputs
        ("threshold", [..., 1, True, "1", [1.0], float("nan"), float("inf"), float("-inf")]),
        ("config", [..., None, 3, "x", [3]]),
        ("figures", [..., None, 3, "x", [3]]),
    ],
)
def test_metadata_that_do_not_fit_are_refused(field: str, values: list[Any]):
    for value in values:
        with pytest.raises(DataError, match="no model of this library"):
            load(with_about(**{field: value}))


@pytest.mark.parametrize("name", ["\x1b[2J", "a\nb", "\u202e", "\0", "x" * 101])
def test_a_class_name_that_would_steer_a_terminal_is_refused(name: str):
    assert refused(with_about(class_names=[*NAMES[:9], name])).isprintable()


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no endless file")
def test_an_endless_model_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checkpoint, "_LARGEST", 10_000)
    with pytest.raises(DataError, match=r"/dev/zero: it is larger than 10,000 bytes"):
        load_model("/dev/zero")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", sorted(SHAPES))
def test_weights_that_are_not_finite_are_refused(name: str, value: float):
    model = untrained()
    leaves, tree = jax.tree.flatten(jax.tree.map(np.array, model.params))
    next(leaf for leaf in leaves if leaf.shape == SHAPES[name]).flat[-1] = value
    assert "not finite" in refused(saved(dataclasses.replace(model, params=jax.tree.unflatten(tree, leaves))))


def test_a_pickle_is_refused_and_not_run(tmp_path: Path):
    witness = tmp_path / "witness"
    order = f"cos\nmkdir\n(S'{witness}'\ntR."  # as `pickle.loads` would carry it out
    refused(order.encode())
    assert not witness.exists()
