"""What flags of several benchmarks have in common."""

import math
from collections.abc import Callable
from typing import Annotated, TypeVar

import tyro

__all__ = ["Count", "Natural", "Positive", "at_least"]

Number = TypeVar("Number", int, float)


def _number(
    kind: type[Number], fits: Callable[[Number], bool], expected: str
) -> tyro.constructors.PrimitiveConstructorSpec[Number]:
    """Of a number that must be as `expected` says."""

    def of(words: list[str]) -> Number:
        number = kind(words[0])
        if not fits(number):
            raise ValueError(f"expected {expected}, not {number}")
        return number

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="N",
        instance_from_str=of,
        is_instance=lambda value: isinstance(value, kind),
        str_from_instance=lambda value: [str(value)],
    )


def at_least(least: int) -> tyro.constructors.PrimitiveConstructorSpec[int]:
    """Of a whole number that is no smaller, for an `Annotated[int, ...]`."""
    return _number(int, lambda number: number >= least, f"{least} or more")


Count = Annotated[int, at_least(1)]
"""How many of something there are to be: of none, nothing can be measured."""

Natural = Annotated[int, at_least(0)]
"""A seed, or how many there are to be of what may be left out."""

Positive = Annotated[float, _number(float, lambda number: 0 < number < math.inf, "a number above 0")]
"""A share, or a factor."""
