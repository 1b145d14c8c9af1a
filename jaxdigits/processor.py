"""What Linux tells of the processor; elsewhere, nothing."""

import functools
import itertools
from pathlib import Path

__all__ = ["described", "has_matrix_unit", "instruction_sets", "multiplies_bfloat16"]


@functools.cache
def described() -> dict[str, str]:
    """The fields of the first processor in `/proc/cpuinfo`, by their names; none where there is no such."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            lines = itertools.takewhile(str.strip, file)  # up to a blank one: the others are alike
            pairs = [line.split(":", 1) for line in lines if ":" in line]
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, value in pairs}


def instruction_sets() -> frozenset[str]:
    """The names of what it can do beyond the ordinary, as Linux spells them."""
    fields = described()
    return frozenset(fields.get("flags", fields.get("Features", "")).split())


def multiplies_bfloat16() -> bool:
    """Whether it has instructions for products in bfloat16, of at least twice the rate of those in float32.

    They are AMX, and AVX-512 BF16 on an AMD. On an Intel Xeon that has the latter alone, products of 2048
    columns and rows reach 0.5 to 0.8 of the float32 rate with them, in XLA as in PyTorch. Arm's are not among
    them: nothing was measured there.
    """
    instructions = instruction_sets()
    by_vectors = "avx512_bf16" in instructions and described().get("vendor_id") == "AuthenticAMD"
    return by_vectors or "amx_bf16" in instructions


def has_matrix_unit() -> bool:
    """Whether it has a matrix unit for bfloat16, of many times the rate of its float32 products: AMX."""
    return "amx_bf16" in instruction_sets()
