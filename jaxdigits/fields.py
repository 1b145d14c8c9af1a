"""The fields of a configuration: a value has the type of its field and is in its range, or one line says so.

Which fields there are, and what each may be, is `config`'s affair.
"""

import contextlib
import dataclasses
import difflib
import numbers
import os
import re
from typing import TYPE_CHECKING, Any, TypeGuard

from jaxdigits.errors import UsageError

__all__ = ["Sizes", "check", "nameable", "sizes", "typed"]

if TYPE_CHECKING:
    Sizes = tuple[int, ...]
else:

    class Sizes(tuple):
        """Sizes of layers: a plain class, which tyro checks without typeguard, that takes 60 ms to import."""


_IN_WORDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    Sizes: "a list of whole numbers",
    type(None): "nothing",
}


def typed(field: dataclasses.Field[Any], value: Any) -> Any:
    """A value in the type of its field, to which paths, NumPy's numbers and JSON's lists are brought."""
    name, kinds = field.name, (type(field.default),)
    if name in ("max_updates", "early_stop"):
        kinds = (int, type(None))
    elif name == "devices":
        kinds = (int, str, type(None))
    elif name == "max_seconds":
        kinds = (float, type(None))
    elif name in ("data_dir", "run_dir", "resume"):
        kinds = (str, type(None))
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    elif kinds == (Sizes,) and isinstance(value, list | tuple) and all(map(_is_whole, value)):
        value = Sizes(map(int, value))
    elif int in kinds and _is_whole(value):
        value = int(value)
    elif float in kinds and isinstance(value, numbers.Real) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # of an integer beyond every float, which stays one
            value = float(value)
    if type(value) not in kinds:
        expected = " or ".join(_IN_WORDS[kind] for kind in kinds)
        raise UsageError(f"the configuration field {name} is {_shown(value)}; expected {expected}")
    return value


def _is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check(field: str, value: Any, valid: bool, expected: str) -> None:
    """Raises `UsageError` unless a value is valid: with what was expected and, of words, the nearest."""
    if not valid:
        words = re.findall(r"\w+", expected) if isinstance(value, str) else []
        near = difflib.get_close_matches(str(value), words, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"--{field.replace('_', '-')} is {_shown(value)}; expected {expected}{hint}")


def _shown(value: Any) -> str:
    """A value as it stands in a message."""
    try:
        return " ".join(repr(value).split())[:80]
    except ValueError:  # an integer of thousands of digits
        return "a very long number"


def nameable(name: str | None) -> bool:
    """Whether the file system could have this name."""
    try:
        return name is None or b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False


def sizes(values: tuple[int, ...], fewest: int, most: int) -> bool:
    """Whether these are so many sizes that a layer may have."""
    return fewest <= len(values) <= most and all(1 <= value <= 4096 for value in values)
