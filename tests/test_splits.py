"""What a run trains, validates and tests on is the same in one process and in several."""

import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxdigits import cache, dataset
from jaxdigits.config import Preset
from jaxdigits.dataset import Split
from jaxdigits.errors import DataError
from jaxdigits.presets import resolve
from jaxdigits.rows import Rows
from jaxdigits.splits import Splits, load_splits, taught

from .cached import install
from .idx_files import one_line, silent, write_idx


@pytest.fixture
def digits(mnist: dataset.Dataset) -> tuple[Split, Split]:
    return Split(*(a[:3000] for a in mnist.train)), Split(*(a[:1200] for a in mnist.test))


@pytest.fixture
def arrays(digits: tuple[Split, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return install(monkeypatch, tmp_path, *digits)


@pytest.fixture(params=["cache", "folder"])
def source(
    request: pytest.FixtureRequest,
    digits: tuple[Split, Split],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, str]:
    """Says where the digits come from: the cache alone, or a folder that it has a copy of."""
    if request.param == "cache":
        install(monkeypatch, tmp_path, *digits)
        return {}
    monkeypatch.setenv("JAXDIGITS_CACHE", str(tmp_path / "cache"))
    write_idx(tmp_path, [array.squeeze() for split in digits for array in split], zipped=True)
    dataset.load(data_dir=tmp_path, on_disk=True, say=lambda _: None)
    return {"data_dir": str(tmp_path)}


def splits(processes: int, preset: Preset = "fast", **fields) -> Splits:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "process_count", lambda: processes)
        return load_splits(resolve(preset, **fields), silent)


CHOICES = [
    {"preset": "fast"},
    {"preset": "fast", "smoke": True, "validation": 300},
    {"preset": "standard", "validation": 500},
    {"preset": "robust", "non_digits": 200, "seed": 3},
]


@pytest.mark.parametrize("fields", CHOICES)
def test_on_disk_they_are_what_they_are_in_memory(source, fields):
    one, several = (splits(processes, **fields | source) for processes in (1, 2))
    assert isinstance(one.train.images, np.ndarray)
    assert one.digest == several.digest
    assert one.taught == several.taught
    np.testing.assert_array_equal(one.non_digits, several.non_digits)
    assert (one.validation is None) == (several.validation is None)
    for name in ("train", "validation", "test"):
        if ours := getattr(one, name):
            theirs = getattr(several, name)
            assert isinstance(theirs.images, Rows)
            np.testing.assert_array_equal(ours.images, np.asarray(theirs.images), strict=True)
            np.testing.assert_array_equal(ours.labels, theirs.labels, strict=True)


@pytest.mark.usefixtures("arrays")
@pytest.mark.parametrize("fields", CHOICES)
def test_how_many_are_trained_on_is_known_beforehand(fields):
    others = {name: value for name, value in fields.items() if name != "preset"}
    assert taught(resolve(fields["preset"], **others), 3000) == splits(1, **fields).taught


@pytest.mark.usefixtures("arrays")
def test_the_digest_tells_what_is_trained_on():
    digests = [splits(1, **fields).digest for fields in CHOICES]
    digests += [
        splits(1, **CHOICES[3] | {"seed": 4}).digest,
        splits(1, **CHOICES[2] | {"validation": 400}).digest,
    ]
    assert len({*digests}) == len(digests)
    assert splits(1, **CHOICES[0] | {"seed": 4}).digest == digests[0]  # which changes no image


def test_the_digest_tells_other_images(arrays: Path, mnist: dataset.Dataset, tmp_path: Path, monkeypatch):
    before = splits(2).digest
    others = Split(mnist.train.images[:3000], mnist.train.labels[1:3001])
    assert install(monkeypatch, tmp_path / "other", others, mnist.test) != arrays
    assert splits(2).digest != before


def prepared_again(arrays: Path) -> None:
    """Two processes find the cache wanting, say so in one line, and are content with it then."""
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "process_count", lambda: 2)
        load_splits(resolve("fast"), said.append)
    assert said == [f"The cache of mnist in {arrays.parent} is damaged or incomplete: preparing it again ..."]
    assert len(np.asarray(splits(2).train.images)) == 3000


def test_a_cache_of_an_earlier_version_is_noticed_and_made_again(arrays: Path):
    listing = arrays / "sha256.json"
    listed = json.loads(listing.read_text())
    for file in ("train.sums", "test.sums"):
        del listed[file]
        (arrays / file).unlink()
    listing.write_text(json.dumps(listed))
    assert cache.intact(arrays)
    splits(1)  # which has no need of what is new
    prepared_again(arrays)


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda arrays: flip(arrays / "train.sums", 70),
        lambda arrays: flip(arrays / "train.u8", -1),  # a label
        lambda arrays: os.truncate(arrays / "test.u8", 10),
        lambda arrays: (arrays / "test.sums").unlink(),
        lambda arrays: (arrays / "sha256.json").write_text('{"train.u8": [1e30, "0"]}'),
        lambda arrays: (arrays / "sha256.json").write_text("["),
    ],
)
def test_damage_that_is_seen_at_once_is_mended(arrays: Path, damage):
    damage(arrays)
    prepared_again(arrays)


def test_a_damaged_image_ends_those_who_need_it_and_is_mended_at_the_next_start(arrays: Path):
    flip(arrays / "train.u8", 784 * 50)
    images = splits(2).train.images
    np.asarray(images[51:])
    with pytest.raises(DataError, match=r"train\.u8: .*; start again") as caught:
        np.asarray(images[:51])
    one_line(caught)
    prepared_again(arrays)
