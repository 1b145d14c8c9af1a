"""Checkpoints that Orbax writes: what is loaded is what was saved; what else lies there is refused."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxdigits.errors import DataError, StorageError
from jaxdigits.joint_snapshot import JointSnapshots
from jaxdigits.mesh import make_mesh
from jaxdigits.snapshot import Snapshot

from .test_snapshot import RECORD, SHAPES, SNAPSHOT, STATE

MESH = make_mesh(jax.devices()[:1])


def snapshots(folder: Path) -> JointSnapshots:
    return JointSnapshots(folder / "last", MESH)


def load(folder: Path) -> Snapshot:
    return snapshots(folder).load(SHAPES, SHAPES.params)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with a sound checkpoint."""
    assert snapshots(tmp_path).save(SNAPSHOT)()
    return tmp_path


def test_loaded_is_what_was_saved_last(tmp_path: Path):
    kept = snapshots(tmp_path)
    assert kept.save(SNAPSHOT)()
    later = dataclasses.replace(RECORD, step=9, best=None)
    state = STATE._replace(step=np.array(9, np.int32), params=jax.tree.map(lambda a: a + 1, STATE.params))
    assert kept.save(Snapshot(state, None, later))()
    assert kept.steps() == [7, 9]
    loaded = load(tmp_path)
    assert loaded.record == later
    jax.tree.map(np.testing.assert_array_equal, (loaded.state, loaded.best), (state, None))
    assert jax.tree.structure(loaded.state) == jax.tree.structure(STATE)


def test_a_state_that_is_not_finite_is_not_kept(tmp_path: Path):
    broken = jax.tree.map(np.copy, STATE)
    broken.params["output"]["bias"][3] = np.nan
    assert not snapshots(tmp_path).save(dataclasses.replace(SNAPSHOT, state=broken))()
    assert not list(tmp_path.iterdir())


def test_one_that_was_not_finished_does_not_count(saved: Path):
    assert snapshots(saved).save(dataclasses.replace(SNAPSHOT, record=dataclasses.replace(RECORD, step=9)))()
    (saved / "last" / "9" / "sha256.json").unlink()
    assert load(saved).record.step == 7


def test_where_there_is_none(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path)


def test_where_no_folder_can_be_is_a_storage_error(tmp_path: Path):
    (tmp_path / "last").write_text("taken")
    with pytest.raises(StorageError, match="cannot write"):
        snapshots(tmp_path).save(SNAPSHOT)()


@pytest.mark.parametrize("how", ["emptied", "cut", "missing", "turned"])
def test_damage_is_one_line_with_the_cure(saved: Path, how: str):
    files = [path for path in saved.rglob("*") if path.is_file() and path.name != "sha256.json"]
    assert files
    for path in files:
        content = path.read_bytes()
        if how == "missing":
            path.unlink()
        elif how == "turned":
            path.write_bytes(bytes(byte ^ 255 for byte in content))
        else:
            path.write_bytes(b"" if how == "emptied" else content[: len(content) // 2])
    with pytest.raises(DataError, match="remove it, and the run resumes") as caught:
        load(saved)
    assert "\n" not in str(caught.value)


def test_a_link_is_not_followed(saved: Path):
    part = next(path for path in saved.rglob("*") if path.is_file())
    part.rename(saved / "elsewhere")
    part.symlink_to(saved / "elsewhere")
    with pytest.raises(DataError, match="no checkpoint of this run"):
        load(saved)


def test_more_than_a_snapshot_can_have_is_not_read(saved: Path):
    with (saved / "last" / "7" / "more").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(DataError, match="more than"):
        load(saved)


def test_the_checkpoint_of_another_network_is_refused(saved: Path):
    other = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*leaf.shape, 2), leaf.dtype), SHAPES)
    with pytest.raises(DataError, match="another shape"):
        snapshots(saved).load(other, other.params)
