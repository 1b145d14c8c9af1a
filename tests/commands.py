"""What the tests of the commands share."""

import re

import pytest

from jaxdigits.__main__ import main
from tests.conftest import PACKAGED

SMOKE = ("--preset", "fast", "--smoke", "--data-dir", str(PACKAGED))

Capture = pytest.CaptureFixture[str]


def refused(capsys: Capture, status: int, *arguments: object) -> str:
    """The line on standard error with which a command stops with this status, and the only one."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    assert stop.value.code == status
    assert re.fullmatch(r"jaxdigits: [^\n]+\n", output.err)
    return output.err
