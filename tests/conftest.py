"""What several test modules share: one small trained run, the packaged images, and a place for caches."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

import jaxdigits
from jaxdigits import dataset
from jaxdigits.device import allocate_as_needed
from jaxdigits.recognizer import Recognizer, load
from jaxdigits.training import TrainResult, train

PACKAGED = Path(jaxdigits.__file__).with_name("mnist")  # read directly, it needs no preparing
ROOT = Path(__file__).resolve().parents[1]

Python = Callable[..., "subprocess.CompletedProcess[str]"]


class Described(NamedTuple):
    """A device that need not be there."""

    platform: str
    compute_capability: str = ""
    device_kind: str = "a device"

    @property
    def client(self) -> Any:
        return SimpleNamespace(platform_version=f"{self.platform} 1")


# Nothing here times anything: on a busy machine an example may take its time.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """A shell has its background jobs ignore Ctrl-C; the tests of it want it heard."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# What runs for a moment is compiled quickly: without LLVM's best efforts and, before jax 0.12, without the
# newer of XLA's two ways to write a loop. The README's commands, and trainings in several processes, are
# compiled as users have it.
QUICK = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
if jax.__version_info__ < (0, 12):
    QUICK["XLA_FLAGS"] = "--xla_cpu_use_fusion_emitters=false"


def pytest_configure() -> None:
    """Has XLA read its flags, which it does once, before any test module can make it."""
    allocate_as_needed()  # each of several workers has a part of a GPU
    flags = [os.environ.get("XLA_FLAGS"), QUICK.get("XLA_FLAGS")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", " ".join(filter(None, flags)))
        jax.jit(lambda: 0)()


@pytest.fixture(scope="session", autouse=True)
def quickly_compiled() -> Iterator[None]:
    """Compiles what the tests of this process run as quickly as `QUICK` says."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="session", autouse=True)
def cache_of_this_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Data sets and compiled programs, of this process and those it starts, go to a folder of the session."""
    root = tmp_path_factory.getbasetemp()
    several = "PYTEST_XDIST_WORKER" in os.environ  # whose folders lie side by side
    folder = (root.parent if several else root) / "cache"
    folder.mkdir(mode=0o700, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXDIGITS_CACHE", str(folder))
        patch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
        yield folder


@pytest.fixture(scope="session")
def mnist() -> dataset.Dataset:
    """MNIST in the order of its own files."""
    return dataset.load(data_dir=PACKAGED)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A smoke training. Not to be changed: all tests share it."""
    folder = tmp_path_factory.mktemp("tiny") / "run"
    return train("fast", smoke=True, data_dir=str(PACKAGED), run_dir=str(folder))


@pytest.fixture(scope="session")
def recognizer(tiny_run: TrainResult) -> Recognizer:
    """That of the small run."""
    return load(tiny_run.run_dir)


@pytest.fixture(scope="session")
def images(mnist: dataset.Dataset) -> np.ndarray:
    """Some hundred test images."""
    return mnist.test.images[:600]


@pytest.fixture(scope="session")
def one_by_one(recognizer: Recognizer, images: np.ndarray) -> np.ndarray:
    """The probabilities of each of these images, which was read by itself: [n, 10]."""
    return np.concatenate([recognizer.probabilities(image[None]) for image in images])


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory, mnist: dataset.Dataset) -> list[str]:
    """Three test images as files."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = [str(folder / f"{'long' * i}{i}.png") for i in range(3)]
    for path, image in zip(paths, mnist.test.images, strict=False):
        Image.fromarray(image[:, :, 0]).save(path)
    return paths


@pytest.fixture(scope="session")
def python() -> Python:
    """Runs this Python in a process of its own, from which this library can be imported.

    It compiles as this process does, so that results can be compared to the bit.
    """

    def run(*arguments: object, cwd: Path | None = None, **environment: str):
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": path, **QUICK, **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run
