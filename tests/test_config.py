"""Configurations: every one that exists is valid, and comes back from its file as it was."""

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any, Literal, Optional, get_origin

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jaxdigits.config import Devices, TrainConfig, to_json
from jaxdigits.errors import UsageError
from jaxdigits.fields import Sizes
from jaxdigits.presets import PRESETS, from_json, resolve

FIELDS = [field.name for field in dataclasses.fields(TrainConfig)]

NAN = st.just(float("nan"))
CHOICES = "auto", "cpu", "gpu", "float32", "bfloat16", "whitened", "tuned", "random", "adamw", "muon"
WORDS = st.text(max_size=20).filter(lambda word: word not in (*CHOICES, *PRESETS))


def outside(low: float, high: float) -> st.SearchStrategy[float]:
    below, above = st.floats(max_value=low, exclude_max=True), st.floats(min_value=high, exclude_min=True)
    return below | above | NAN


def outside_whole(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(max_value=low - 1) | st.integers(min_value=high + 1)


SIZES = st.integers(1, 4096)
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
OUT_OF_RANGE: dict[str, st.SearchStrategy[Any]] = {
    "preset": WORDS,
    "epochs": outside(0, 100_000) | st.just(0.0),
    "batch_size": outside_whole(1, 65_536),
    "learning_rate": outside(0, 1e9) | st.just(0.0),
    "beta1": outside(0, 1) | st.just(1.0),
    "beta2": outside(0, 1) | st.just(1.0),
    "weight_decay": st.floats(max_value=0, exclude_max=True) | NAN | st.just(float("inf")),
    "label_smoothing": outside(0, 1) | st.just(1.0),
    "max_shift": outside(0, 14),
    "max_scale": outside(0, 0.9),
    "max_shear": outside(0, 0.9),
    "max_slant": outside(0, 0.9),
    "max_bend": outside(0, 14),
    "stretch": outside(0, 1),
    "hands": outside(0, 1),
    "ink": outside(0, 1),
    "damage": outside(0, 1),
    "calming": outside(0, 1),
    "non_digits": outside_whole(0, 100_000),
    "channels": st.lists(SIZES, max_size=1).map(tuple)
    | st.lists(SIZES, min_size=5, max_size=9).map(tuple)
    | st.tuples(SIZES, outside_whole(1, 4096)),
    "stem": WORDS,
    "optimizer": WORDS,
    "hidden": outside_whole(1, 65_536),
    "dtype": WORDS,
    "views": st.integers().filter(lambda views: views not in (1, 5, 9)),
    "seed": outside_whole(0, 2**32 - 1),
    "validation": st.integers(max_value=-1),
    "device": WORDS,
    "devices": st.integers(max_value=0) | WORDS.filter(lambda word: word != "all"),
    "resume": st.just(""),
    "checkpoint_seconds": st.floats(max_value=0, exclude_max=True) | NAN | st.just(float("inf")),
    "early_stop": outside_whole(1, 100_000),
    "max_updates": outside_whole(1, 2**31 - 1),
    "max_seconds": st.floats(max_value=0) | NAN | st.just(float("inf")),
}
IN_RANGE: dict[str, st.SearchStrategy[Any]] = {
    "preset": st.sampled_from(sorted(PRESETS)),
    "epochs": st.floats(0, 1e5, exclude_min=True) | st.integers(1, 100_000),
    "batch_size": st.integers(1, 65_536),
    "learning_rate": st.floats(0, 1e9, exclude_min=True),
    "beta1": st.floats(0, 1, exclude_max=True),
    "beta2": st.floats(0, 1, exclude_max=True),
    "weight_decay": st.floats(0, 1e300),
    "label_smoothing": st.floats(0, 1, exclude_max=True),
    "max_shift": st.floats(0, 14) | st.integers(0, 14),
    "max_scale": st.floats(0, 0.9),
    "max_shear": st.floats(0, 0.9),
    "max_slant": st.floats(0, 0.9),
    "max_bend": st.floats(0, 14),
    "stretch": st.floats(0, 1),
    "hands": st.floats(0, 1),
    "ink": st.floats(0, 1),
    "damage": st.floats(0, 1),
    "calming": st.floats(0, 1),
    "non_digits": st.integers(0, 100_000),
    "channels": st.lists(SIZES, min_size=2, max_size=4).map(tuple),
    "stem": st.sampled_from(["whitened", "tuned", "random"]),
    "optimizer": st.sampled_from(["adamw", "muon"]),
    "hidden": st.integers(1, 65_536),
    "dtype": st.sampled_from(["auto", "float32", "bfloat16"]),
    "views": st.sampled_from([1, 5, 9]),
    "seed": st.integers(0, 2**32 - 1),
    "dataset": NAMES,
    "data_dir": st.none() | NAMES,
    "validation": st.integers(min_value=0),
    "device": st.sampled_from(["auto", "cpu", "gpu"]),
    "devices": st.none() | st.integers(min_value=1) | st.just("all"),
    "deterministic": st.booleans(),
    "plots": st.booleans(),
    "run_dir": st.none() | NAMES,
    "resume": st.none() | st.text(min_size=1),
    "checkpoint_seconds": st.floats(0, 1e9),
    "early_stop": st.none() | st.integers(1, 100_000),
    "max_updates": st.none() | st.integers(1, 2**31 - 1),
    "max_seconds": st.none() | st.floats(0, 1e9, exclude_min=True),
    "smoke": st.booleans(),
}
# For each JSON type of a field, values that JSON can hold and the field cannot.
WRONG: dict[Any, list[Any]] = {
    int: [True, "3", 1.5, 3.0, None, [3], {}],
    float: [True, "0.1", None, [0.1], {}, 10**400],
    bool: [0, 1, "true", None, []],
    str: [0, True, None, ["cpu"], {}],
    Optional[str]: [0, True, ["mnist"], {}],
    Optional[int]: [True, "3", 1.5, 3.0, [3], {}],
    Optional[float]: [True, "1", [1.0], {}],
    Devices: [True, "some", 1.5, 0, [3], {}],
    Sizes: [32, "32", None, {}, [32, "64"], [32, 64.5], [True, 64], [[32, 64]], [None, 3]],
}


def read(content: str | bytes) -> TrainConfig:
    """What `from_json` makes of a file with this content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return from_json(path)


def refused(content: str | bytes) -> str:
    """The one line with which a file of this content is refused."""
    with pytest.raises(UsageError) as caught:
        read(content)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def json_type(field: str) -> Any:
    """Which of the lists in `WRONG` is a field's."""
    kind = next(f.type for f in dataclasses.fields(TrainConfig) if f.name == field)
    return str if get_origin(kind) is Literal else kind


# Presets.


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_is_known_by_its_name_and_survives_its_file(name: str):
    preset = PRESETS[name]
    assert preset.preset == name
    assert resolve(name) == preset
    assert dataclasses.replace(preset) == preset  # which checks it again
    assert read(json.dumps(to_json(preset))) == preset


def test_an_unknown_preset_is_refused():
    with pytest.raises(UsageError, match=r"'quick'.*standard, fast"):
        resolve("quick")


# Ranges.


def test_the_ranges_are_all_tested():
    free = {"dataset", "data_dir", "deterministic", "plots", "run_dir", "smoke"}
    assert OUT_OF_RANGE.keys() == set(FIELDS) - free
    assert IN_RANGE.keys() == set(FIELDS)


@given(st.fixed_dictionaries({}, optional=IN_RANGE))
def test_what_is_in_range_survives_its_file(fields: dict[str, Any]):
    assume(not fields.get("early_stop") or fields.get("validation") != 0)  # which contradict each other
    config = TrainConfig(**fields)
    for name, value in fields.items():
        assert getattr(config, name) == (1 if name == "epochs" and config.smoke else value)
    saved = to_json(config)
    assert saved["data_dir"] is None or Path(saved["data_dir"]).is_absolute()
    assert read(json.dumps(saved)) == dataclasses.replace(
        config, run_dir=None, resume=None, data_dir=saved["data_dir"]
    )
    assert saved.keys() == set(FIELDS) - {"run_dir", "resume"}


@given(st.data(), st.sampled_from(sorted(OUT_OF_RANGE)))
def test_what_is_out_of_range_is_refused_in_one_line_with_its_flag(data: st.DataObject, field: str):
    value = data.draw(OUT_OF_RANGE[field])
    for make in (TrainConfig, lambda **fields: resolve("fast", **fields)):
        with pytest.raises(UsageError) as caught:
            make(**{field: value})
        assert str(caught.value).startswith(f"--{field.replace('_', '-')} is ")
        assert "\n" not in str(caught.value)


# Overriding.


@pytest.mark.parametrize("field", FIELDS)
def test_a_misspelt_field_names_the_nearest(field: str):
    misspelt = field[:-2] + field[-1]
    with pytest.raises(UsageError, match=f"did you mean {field}\\?"):
        resolve("fast", **{misspelt: 1})
    assert f"did you mean {field}?" in refused(json.dumps({misspelt: 1}))


def test_a_field_like_no_other_lists_all():
    for name in ("zzzzzz", "", "self"):
        assert ", ".join(FIELDS) in refused(json.dumps({name: 1}))
    assert "'config'" in refused('{"config": 1}')


@pytest.mark.parametrize("field", FIELDS)
def test_an_override_of_the_wrong_type_is_refused(field: str):
    for value in (object(), 1 + 2j, {"a": 1}):
        with pytest.raises(UsageError, match=field):
            resolve("standard", **{field: value})


@given(st.floats(1e-9, 1e5), st.integers(1, 5000), st.none() | st.integers(1, 1000))
def test_updates_are_those_of_the_epochs_to_the_nearest_but_at_least_one(epochs, per_epoch, most):
    config = resolve("fast", epochs=epochs, max_updates=most)
    updates = config.updates(per_epoch)
    exact = epochs * per_epoch
    assert updates == 1 or updates == most or abs(updates - exact) <= 0.5
    assert 1 <= updates <= (most or max(1, exact + 0.5))
    assert config.updates(per_epoch) >= resolve(config, epochs=epochs / 2).updates(per_epoch)


@pytest.mark.parametrize(("field", "value"), [("batch_size", 1.5), ("seed", 1.0), ("hidden", "8")])
def test_a_whole_number_is_wanted_whole(field: str, value: Any):
    with pytest.raises(UsageError, match=field):
        resolve("standard", **{field: value})


def test_numbers_of_numpy_and_paths_become_what_json_holds():
    config = resolve(
        "fast",
        seed=np.int64(3),
        learning_rate=np.float32(0.5),
        channels=[np.int32(4), 8],
        data_dir=Path("a") / "b",
        run_dir=Path("c"),
    )
    expected = resolve(
        "fast", seed=3, learning_rate=0.5, channels=(4, 8), data_dir=str(Path("a") / "b"), run_dir="c"
    )
    assert config == expected
    assert json.dumps(to_json(config)) == json.dumps(to_json(expected))


def test_a_smoke_run_is_one_epoch():
    assert resolve("standard", smoke=True, epochs=9).epochs == 1


# Files.


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_of_the_wrong_json_type_is_refused(field: str):
    for value in WRONG[json_type(field)]:
        assert field in refused(json.dumps({field: value})), value


@pytest.mark.parametrize(
    "content",
    ["", "{", "nonsense", "[]", "[1, 2]", "3", "null", '"epochs"', "[" * 100_000, "9" * 5000, b"\xff\xfe"],
    ids=lambda content: repr(content[:10]),
)
def test_a_file_without_an_object_is_refused(content: str | bytes):
    assert "config.json" in refused(content)


@given(
    st.dictionaries(
        st.sampled_from(FIELDS),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
    )
)
def test_any_object_is_a_configuration_or_refused_in_one_line(fields: dict[str, Any]):
    config, message = None, ""
    try:
        config = read(json.dumps(fields))
    except UsageError as error:
        message = str(error)
    assert "\n" not in message
    if config is not None:
        saved = to_json(config)  # with an absolute path of the data
        assert saved["data_dir"] is None or Path(saved["data_dir"]).is_absolute()
        assert read(json.dumps(saved)) == dataclasses.replace(
            config, run_dir=None, resume=None, data_dir=saved["data_dir"]
        )


def test_a_missing_file_is_refused(tmp_path: Path):
    for path in (tmp_path / "config.json", tmp_path):
        with pytest.raises(UsageError, match="cannot read the configuration"):
            from_json(path)


def test_another_preset_brings_its_own_values():
    assert resolve("standard", preset="fast") == PRESETS["fast"]


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no endless file")
def test_an_endless_configuration_is_refused():
    with pytest.raises(UsageError, match=r"/dev/zero: it is larger than 1,048,576 bytes"):
        from_json("/dev/zero")


def test_a_folder_of_nobody_is_a_name_like_any_other():
    assert Path(to_json(resolve("fast", data_dir="~nosuchuser/mnist"))["data_dir"]).name == "mnist"
