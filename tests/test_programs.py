"""Programs that are compiled while the images are being prepared by another process."""

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from jaxdigits import child, dataset, device, kept, preparer, programs, records, train
from jaxdigits.compiling import compile_programs
from jaxdigits.dataset import Split
from jaxdigits.errors import DataError
from jaxdigits.presets import resolve

from .cached import install
from .idx_files import silent

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


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    """The images are said to be lacking, and no process can be started to prepare them."""

    def start(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.setattr(dataset, "lacking", lambda _: True)
    monkeypatch.setattr(child, "start", start)


@pytest.mark.usefixtures("digits", "cold")
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
        patch.setattr(dataset, "lacking", lambda _: False)
        assert weights("after") == ahead
        assert compiled == [2900]
    assert weights("again") == ahead  # there are not as many images as is known of MNIST
    assert compiled == [59_900, 2900]


@pytest.mark.usefixtures("cold")
def test_nothing_is_done_ahead_for_images_of_which_nothing_is_known(compiled, tmp_path):
    chosen = device.select("cpu")
    for fields in ({"data_dir": str(tmp_path)}, {"dataset": "kmnist"}):
        assert programs.ahead(resolve("fast", **fields), chosen, silent) is None
    assert compiled == []


@pytest.mark.usefixtures("cold")
def test_what_is_wrong_with_the_images_is_told_all_the_same(tmp_path, monkeypatch):
    def damaged(_name: str, _folder: Path) -> None:
        raise DataError("the files are damaged")

    monkeypatch.setenv("JAXDIGITS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(records, "prepare", damaged)
    with pytest.raises(DataError, match="the files are damaged"):
        train("fast", run_dir=str(tmp_path / "run"), **SMALL)
    assert not (tmp_path / "run").exists()


def test_another_process_prepares_the_images(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDIGITS_CACHE", str(tmp_path))
    assert dataset.lacking("mnist")
    with preparer.beside("mnist", lambda _: None):
        pass
    assert len(dataset.load("mnist", say=silent).train.labels) == 60_000


def test_whoever_waits_no_longer_ends_the_process_and_nothing_half_written_is_left(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDIGITS_CACHE", str(tmp_path))
    said: list[str] = []

    def leave_early() -> None:
        with preparer.beside("mnist", said.append):
            deadline = time.monotonic() + 60
            while not [*tmp_path.glob("datasets/.mnist-records.*.tmp/new/*")]:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        leave_early()
    assert said == ["Preparing mnist from the packaged files (once, about 8 s) ..."]
    assert not [*(tmp_path / "datasets").iterdir()]
