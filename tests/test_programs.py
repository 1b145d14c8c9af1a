"""Programs that are compiled while the images are still being loaded."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from jaxdigits import dataset, device, kept, programs, records, train, training
from jaxdigits.compiling import compile_programs
from jaxdigits.dataset import Split
from jaxdigits.errors import DataError
from jaxdigits.presets import resolve

from .cached import install

SMALL: dict[str, Any] = {"channels": (2, 3), "hidden": 8, "validation": 100, "max_updates": 3, "plots": False}


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """For how many images programs are compiled, one entry each time."""
    numbers: list[int] = []

    def told(config, plan, mesh):
        numbers.append(plan.images)
        return compile_programs(config, plan, mesh)

    monkeypatch.setattr(programs, "compile_programs", told)
    return numbers


@pytest.fixture
def digits(mnist: dataset.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of 3,000 digits under the name of MNIST."""
    train, test = Split(*(a[:3000] for a in mnist.train)), Split(*(a[:500] for a in mnist.test))
    install(monkeypatch, tmp_path / "cache", train, test)


@pytest.mark.usefixtures("digits")
def test_whether_ahead_or_not_the_training_is_the_same(tmp_path, monkeypatch, compiled):
    def weights(run: str) -> bytes:
        shutil.rmtree(tmp_path / "cache" / kept.FOLDER, ignore_errors=True)
        compiled.clear()
        train("fast", run_dir=str(tmp_path / run), **SMALL)
        return (tmp_path / run / "model.safetensors").read_bytes()

    with monkeypatch.context() as patch:
        patch.setattr(programs, "MNIST_IMAGES", 3000)
        ahead = weights("ahead")
        assert compiled == [2900]
    with monkeypatch.context() as patch:
        patch.setattr(training, "ahead", lambda *_: None)
        assert weights("after") == ahead
        assert compiled == [2900]
    assert weights("again") == ahead  # there are not as many images as is known of MNIST
    assert sorted(compiled) == [2900, 59_900]


def test_nothing_is_begun_for_images_of_which_nothing_is_known(compiled, tmp_path):
    chosen = device.select("cpu")
    assert programs.ahead(resolve("fast", data_dir=str(tmp_path)), chosen) is None
    assert programs.ahead(resolve("fast", dataset="kmnist"), chosen) is None
    assert compiled == []


def test_what_is_wrong_with_the_images_is_told_all_the_same(tmp_path, monkeypatch):
    def damaged(_name: str, _folder: Path) -> None:
        raise DataError("the files are damaged")

    monkeypatch.setenv("JAXDIGITS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(records, "prepare", damaged)
    with pytest.raises(DataError, match="the files are damaged"):
        train("fast", run_dir=str(tmp_path / "run"), **SMALL)
    assert not (tmp_path / "run").exists()
