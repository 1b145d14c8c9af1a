"""The device that was asked for is the one in use, or there is an error that says so."""

import os
import stat
from pathlib import Path
from typing import Any

import jax
import pytest

from jaxdigits.device import describe, select
from jaxdigits.errors import DeviceError
from tests.conftest import Python

CONFIG: Any = jax.config

# Compiles something with the cache as this library sets it up, and tells where the programs went.
COMPILE = """
import jax
from jaxdigits.device import enable_compilation_cache
print(enable_compilation_cache())
jax.jit(lambda x: x * 2 + 1)(3).block_until_ready()
print(jax.config.jax_compilation_cache_dir)
"""


def gpus() -> list[Any]:
    try:
        return jax.local_devices(backend="gpu")
    except RuntimeError:
        return []


@pytest.fixture(autouse=True)
def same_default_device():
    before = CONFIG.jax_default_device
    yield
    jax.config.update("jax_default_device", before)


def test_the_cpu_is_always_there():
    device = select("cpu")
    assert device.platform == "cpu"
    assert jax.numpy.zeros(1).devices() == {device}
    assert describe(device).startswith("CPU (")
    assert "core" in describe(device)


def test_auto_takes_a_gpu_only_where_there_is_one():
    device = select()
    assert device in (gpus() or jax.local_devices(backend="cpu"))
    assert jax.numpy.zeros(1).devices() == {device}


@pytest.mark.skipif(bool(gpus()), reason="there is a GPU")
def test_no_gpu_is_a_device_error_that_says_what_to_do():
    before = CONFIG.jax_default_device
    with pytest.raises(DeviceError) as caught:
        select("gpu")
    message = str(caught.value)
    assert "\n" not in message
    assert "--device cpu" in message
    assert "jaxdigits[cuda" in message
    assert CONFIG.jax_default_device is before


@pytest.mark.skipif(not gpus(), reason="there is no GPU")
def test_a_gpu_is_taken_and_described():
    device = select("gpu")
    assert device.platform == "gpu"
    assert describe(device) == f"GPU ({device.device_kind})"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only some systems bind a process to cores")
def test_the_cores_are_those_of_this_process(python: Python):
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from jaxdigits.device import describe, select; print(describe(select('cpu')))"
    )
    assert python("-c", code).stdout == "CPU (1 core)\n"


def test_a_backend_that_does_not_start_is_a_device_error(python: Python):
    code = (
        "from jaxdigits.device import select\nfrom jaxdigits.errors import DeviceError\n"
        "try: select()\nexcept DeviceError as error: print(error)"
    )
    done = python("-c", code, JAX_PLATFORMS="nonsense")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("JAX cannot start on this machine: ")
    assert done.stdout.count("\n") == 1


def test_determinism_is_asked_for_once_and_beside_other_flags(python: Python):
    code = (
        "import os\nfrom jaxdigits.device import select\n"
        "for _ in range(2): select('cpu', deterministic=True)\nprint(os.environ['XLA_FLAGS'])"
    )
    done = python("-c", code, XLA_FLAGS="--xla_cpu_enable_fast_math=false")
    assert done.stdout.split() == ["--xla_cpu_enable_fast_math=false", "--xla_gpu_deterministic_ops=true"]


@pytest.mark.parametrize("jax_first", [False, True])
@pytest.mark.skipif(
    jax.__version_info__ < (0, 12), reason="older ones may go on in other threads all the same"
)
def test_who_reads_pictures_first_has_a_cpu_done_when_it_returns(python: Python, jax_first: bool):
    code = (
        f"import jax, numpy as np\nfrom jaxdigits import load\nif {jax_first}: jax.devices()\nload()\n"
        "long = jax.jit(lambda x: jax.lax.fori_loop(0, 500, lambda _, x: x @ x / 600, x))\n"
        "print(long(np.ones((600, 600), np.float32)).is_ready())"
    )
    done = python("-c", code, JAX_PLATFORMS="cpu")
    assert done.stdout == f"{not jax_first}\n", done.stderr


def test_who_reads_pictures_tells_jax_to_dispatch_synchronously(python: Python):
    code = (
        "import jax\nfrom jaxdigits import load\n"
        "for _ in range(2): print(jax.config.values['jax_cpu_enable_async_dispatch']); load()"
    )
    assert python("-c", code).stdout.split() == ["True", "False"]


def test_compiled_programs_are_kept_where_nobody_else_can_put_any(python: Python, tmp_path: Path):
    done = python("-c", COMPILE, JAXDIGITS_CACHE=str(tmp_path / "own"))
    assert done.stdout.split() == ["True", str(tmp_path / "own" / "xla")], done.stderr
    assert any((tmp_path / "own" / "xla").iterdir())
    if os.name == "posix":
        for folder in (tmp_path / "own", tmp_path / "own" / "xla"):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_user_says_where_compiled_programs_are_kept(python: Python, tmp_path: Path):
    theirs = str(tmp_path / "theirs")
    done = python("-c", COMPILE, JAXDIGITS_CACHE=str(tmp_path / "own"), JAX_COMPILATION_CACHE_DIR=theirs)
    assert done.stdout.split() == ["True", theirs], done.stderr
    assert not (tmp_path / "own").exists()


def test_without_a_place_for_them_programs_are_compiled_all_the_same(python: Python, tmp_path: Path):
    (tmp_path / "file").touch()
    done = python("-c", COMPILE, JAXDIGITS_CACHE=str(tmp_path / "file"))
    assert done.stdout.split() == ["False", "None"], done.stderr
