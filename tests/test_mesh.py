"""The result does not depend on how many devices, in how many processes, it was computed on."""

import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxdigits import DeviceError, UsageError, train
from jaxdigits import mesh as meshes
from jaxdigits.presets import resolve

from .conftest import PACKAGED, QUICK, ROOT

TOLERANCE = 1e-3  # of a weight after an epoch; rounding differs, and Adam divides by what may be near 0
SIMULATED = "--xla_force_host_platform_device_count="


def start(devices, *arguments):
    """A program on simulated devices, in a process of its own."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    flags = f"{QUICK.get('XLA_FLAGS', '')} {SIMULATED}{devices}"
    variables = {**QUICK, "PYTHONPATH": path, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.across", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def finish(*processes):
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err


def assert_same(found, expected):
    for name, array in expected.items():
        if name in ("images", "correct"):
            assert abs(int(found[name]) - int(array)) <= (name == "correct"), name
        else:
            scale = max(1.0, float(np.abs(array).max()))
            np.testing.assert_allclose(found[name], array, rtol=0, atol=TOLERANCE * scale, err_msg=name)


@pytest.mark.parametrize(
    ("batch_size", "devices"),
    [
        (100, "1,8"),
        pytest.param(64, "1,2,4,8", marks=pytest.mark.slow),
        pytest.param(1, "1,3", marks=pytest.mark.slow),
    ],
)
def test_the_weights_do_not_depend_on_the_number_of_devices(tmp_path, batch_size, devices):
    finish(start(8, tmp_path / "w", devices, batch_size))
    one, *others = (np.load(tmp_path / f"w-{size}.npz") for size in devices.split(","))
    assert one["images"] == 1003
    assert one["logits"].shape == (333, 10)
    for other in others:
        assert_same(other, one)


@pytest.mark.parametrize(
    ("processes", "each"),
    [pytest.param(2, 1, marks=pytest.mark.slow), pytest.param(4, 2, marks=pytest.mark.slow)],
)
def test_the_weights_do_not_depend_on_the_number_of_processes(tmp_path, processes, each):
    finish(start(1, tmp_path / "alone", 1, 100))
    address = f"127.0.0.1:{free_port()}"
    size = processes * each
    finish(*(start(each, tmp_path / "w", size, 100, address, processes, i) for i in range(processes)))
    assert_same(np.load(tmp_path / f"w-{size}.npz"), np.load(tmp_path / "alone-1.npz"))


def test_more_devices_than_there_are(tmp_path):
    there = len(jax.devices())
    with pytest.raises(DeviceError, match=rf"--devices {there + 1}: .* only {there}.*simulates"):
        train("fast", smoke=True, data_dir=str(PACKAGED), run_dir=str(tmp_path / "r"), devices=there + 1)
    assert len(meshes.choose("all", jax.devices()[0])) == there


@pytest.mark.parametrize("devices", [0, -1, "some", 1.5])
def test_a_number_of_devices_that_is_none(devices):
    with pytest.raises(UsageError, match="devices"):
        resolve("fast", devices=devices)
