"""What flags of several benchmarks have in common."""

from typing import Annotated

import tyro

__all__ = ["Count"]


def _at_least_one(words: list[str]) -> int:
    count = int(words[0])
    if count < 1:
        raise ValueError(f"expected 1 or more, not {count}")
    return count


Count = Annotated[
    int,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="N",
        instance_from_str=_at_least_one,
        is_instance=lambda value: isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    ),
]
"""How many of something there are to be: of none, nothing can be measured."""
