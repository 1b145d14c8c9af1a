"""Several processes find each other, compare what they are about to do, and tell of a loss in one line."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from jaxdigits import UsageError, distributed, runtime_log
from jaxdigits.errors import DeviceError

from .conftest import ROOT
from .test_mesh import free_port

JOINS = """
import json, sys
from jaxdigits import distributed
from jaxdigits.errors import JaxdigitsError
distributed.HEARTBEAT = 10
address, processes, process_id, fields, *then = sys.argv[1:]
try:
    distributed.start(address, int(processes), int(process_id), patience=4)
    distributed.agree(json.loads(fields))
    print("together", distributed.together(int(process_id) + 5), distributed.first(), flush=True)
    while then:
        with distributed.one_line():
            distributed.together(0)
except JaxdigitsError as error:
    distributed.give_up(error.exit_status, f"jaxdigits: {error}")
"""


def join(address, processes, process_id, fields="{}", *then):
    return subprocess.Popen(
        [sys.executable, "-c", JOINS, address, str(processes), str(process_id), fields, *then],
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process):
    """Waits until a process has joined the others."""
    for line in process.stdout:
        if "together" in line:
            return


def ends(process):
    """The status of a process, and what it said on standard error."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err.splitlines()


@pytest.fixture
def address():
    return f"127.0.0.1:{free_port()}"


def test_processes_join_and_take_the_word_of_the_first(address):
    both = [join(address, 2, i, '{"epochs": 3}') for i in range(2)]
    for i, process in enumerate(both):
        status, out, err = ends(process)
        assert (status, err) == (0, [])
        assert f"together 5 {i == 0}" in out


def test_processes_that_differ_say_in_what(address):
    both = [join(address, 2, i, json.dumps({"epochs": 3, "batch_size": 64 >> i})) for i in range(2)]
    for process in both:
        status, _, err = ends(process)
        assert status == 2
        assert len(err) == 1
        assert "process 1 differs from process 0 in batch_size: 32, not 64" in err[0]


def test_a_process_that_is_killed_ends_the_other_with_a_line(address):
    lost, left = (join(address, 2, i, "{}", "stay") for i in (1, 0))
    wait_for(lost)
    lost.kill()
    status, _, err = ends(left)
    lost.communicate()
    assert status in (4, -signal.SIGABRT)
    assert len(err) == 1
    assert "this training is gone" in err[0] or "no sign of life" in err[0]


@pytest.mark.slow
def test_a_process_that_falls_silent_ends_the_other_in_time(address):
    lost, left = (join(address, 2, i, "{}", "stay") for i in (1, 0))
    wait_for(lost)
    lost.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    status, _, err = ends(left)
    assert time.monotonic() - began < 2 * 10 + 5
    lost.kill()
    lost.communicate()
    assert status in (4, -signal.SIGABRT)
    assert len(err) == 1
    assert "process 1" in err[0]
    assert "10 s" in err[0]


@pytest.mark.slow
def test_a_process_id_given_twice(address):
    first, *twice = (join(address, 2, i, "{}", "stay") for i in (0, 1, 1))
    ended = [ends(process) for process in (first, *twice)]
    for status, _, err in ended:
        assert status in (4, -signal.SIGABRT), err
        assert len(err) == 1
    assert any("same --process-id" in err[0] for _, _, err in ended)


@pytest.mark.slow
def test_a_process_that_never_comes(address):
    status, _, err = ends(join(address, 2, 0))
    assert status == -signal.SIGABRT
    assert len(err) == 1
    assert "not all of --processes came together" in err[0]


def test_a_coordinator_that_cannot_be_reached():
    with pytest.raises(DeviceError, match=r"cannot be reached within 0.3 s: Connection refused"):
        distributed.start(f"127.0.0.1:{free_port()}", 2, 1, patience=0.3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere", 2, 0), "expected HOST:PORT"),
        (("host:70000", 2, 0), "expected HOST:PORT"),
        (("host:1234", 2, None), "goes with"),
        (("host:1234", 2, 2), "expected 0 to 1"),
        (("auto", 2, None), "leave them out"),
    ],
)
def test_flags_that_make_no_sense(arguments, message):
    with pytest.raises(UsageError, match=message):
        distributed.start(*arguments)


def test_the_port_of_the_coordinator_is_taken():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        with pytest.raises(DeviceError, match="cannot have the port"):
            distributed.start(f"127.0.0.1:{taken.getsockname()[1]}", 2, 0)


def test_what_this_library_has_said_is_not_said_again():
    fatal = "F1122 10:00:00.000000    1 client.h:80] Terminating process: UNAVAILABLE"
    own = "jaxdigits: another process of this training is gone"
    assert list(runtime_log.told([own, fatal], "60", "30")) == [own]
    assert [line.startswith("jaxdigits: ") for line in runtime_log.told([fatal], "60", "30")] == [True]


def test_other_lines_pass_as_they_are():
    lines = ["a warning", "W0101 00:00:00.0 12 other.cc:3] of something else", "RPC: /kept", ""]
    assert list(runtime_log.told(lines, "60", "30")) == lines
