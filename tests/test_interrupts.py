"""Ctrl-C and SIGTERM, whenever they come: one line, an exit status, and nothing lost."""

import signal
import subprocess
import sys
import time

import pytest

from jaxdigits.interrupts import Watch
from jaxdigits.last_snapshot import LAST_FILE

from .conftest import ROOT
from .idx_files import small, write_idx


def test_the_second_signal_leaves_at_once():
    program = (
        "import signal; from jaxdigits.interrupts import Watch\n"
        "with Watch() as watch:\n"
        "    signal.raise_signal(signal.SIGTERM); print(watch.number, flush=True)\n"
        "    signal.raise_signal(signal.SIGINT); print('never')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (130, b"15\n")


def test_a_watch_gives_the_handlers_back():
    before = signal.getsignal(signal.SIGINT)
    with Watch():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_a_signal_to_the_command_is_one_line_and_a_status(tmp_path, number, status):
    digits = tmp_path / "digits"
    digits.mkdir()
    write_idx(digits, small(200, 50))
    command = [
        sys.executable,
        ROOT / "train.py",
        "--preset",
        "fast",
        "--data-dir",
        digits,
        "--epochs",
        "100000",
    ]
    with subprocess.Popen(
        [*command, "--run-dir", "run"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        while not process.stdout.readline().startswith("epoch "):
            pass
        process.send_signal(number)
        output, error = process.communicate(timeout=60)
    assert process.returncode == status
    assert output is not None
    assert error.startswith("jaxdigits: interrupted after ")
    assert error.count("\n") == 1
    assert error.rstrip().endswith("jaxdigits train --resume run goes on from there")
    assert (tmp_path / "run" / LAST_FILE).exists()


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.3])
def test_a_signal_to_a_command_that_starts_is_no_traceback(tmp_path, delay):
    ready = "import time; from jaxdigits import interrupts; interrupts.leave_at_once(); print(flush=True);"
    program = f"{ready} from jaxdigits.console import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", program, "train", "--run-dir", tmp_path / "run"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (130, "jaxdigits: interrupted\n")
