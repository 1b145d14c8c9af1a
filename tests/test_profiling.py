"""A trace is left, and the training is none the wiser."""

import jax
import numpy as np
import pytest

from jaxdigits import StorageError, train
from jaxdigits.profiling import profile

from .conftest import PACKAGED


def test_a_profile_changes_nothing(tiny_run, tmp_path):
    result = train(
        "fast",
        smoke=True,
        data_dir=str(PACKAGED),
        run_dir=str(tmp_path / "run"),
        plots=False,
        profile=tmp_path / "trace",
    )
    jax.tree.map(np.testing.assert_array_equal, result.model.params, tiny_run.model.params)
    assert list((tmp_path / "trace").glob("plugins/profile/*/*.xplane.pb"))
    assert list((tmp_path / "trace").glob("plugins/profile/*/perfetto_trace.json.gz"))


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write a profile"):
        profile(tmp_path / "file", lambda state, *_: state, {"a": np.zeros(1)}, None)  # pyright: ignore
