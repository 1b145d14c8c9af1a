"""A folder for one process."""

import subprocess
import sys

import pytest

from jaxdigits.errors import UsageError
from jaxdigits.lock import LOCK_FILE, Lock, is_locked

from .conftest import ROOT


def test_a_lock_ends_with_its_process(tmp_path):
    program = (
        f"from jaxdigits.lock import Lock; from pathlib import Path; lock = Lock(Path({str(tmp_path)!r}));"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program + "print('locked', flush=True); input()"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == b"locked\n"
        assert is_locked(tmp_path)
        with pytest.raises(UsageError, match="in use"):
            Lock(tmp_path)
        process.kill()
    assert (tmp_path / LOCK_FILE).exists()
    Lock(tmp_path).release()
    assert not (tmp_path / LOCK_FILE).exists()
