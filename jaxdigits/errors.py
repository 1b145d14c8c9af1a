"""What can go wrong, as one class per cause.

Every error that a user can cause, or cure, is raised as a subclass of `JaxdigitsError`, with a
message of one line: what was expected, what was found, what to do next. The command line prints
that line and exits with the class's `exit_status`; a caller from Python catches the class.
"""

__all__ = [
    "DataError",
    "DeviceError",
    "DivergedError",
    "JaxdigitsError",
    "StorageError",
    "UsageError",
    "in_one_line",
    "printable",
]


def printable(text: str) -> str:
    """Text that whoever made a file chose, such as a name, without what would steer a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def in_one_line(error: object) -> str:
    """A message as it is printed: on one line, and `printable`."""
    return printable(" ".join(str(error).split()))


class JaxdigitsError(Exception):
    """Base class of every error that this library raises on purpose."""

    exit_status = 1


class UsageError(JaxdigitsError):
    """A flag, a configuration field or an argument is unknown, contradictory or out of range."""

    exit_status = 2


class DataError(JaxdigitsError):
    """A data set, a picture, an array or a model file is missing, damaged or of the wrong form."""

    exit_status = 3


class DeviceError(JaxdigitsError):
    """The device that was asked for is not there, or cannot run the program."""

    exit_status = 4


class DivergedError(JaxdigitsError):
    """The training loss is no longer finite."""

    exit_status = 5


class StorageError(JaxdigitsError):
    """A folder or file cannot be created, written or replaced."""

    exit_status = 6
