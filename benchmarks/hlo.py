"""What a compiled loop does in one turn, read from the text of its optimised HLO.

XLA prints a program as computations, each a list of `%name = shape opcode(operands), attributes`. On a GPU
every fusion, library call and copy in a loop's body is launched as a kernel of its own; from its shapes
follow the bytes that it moves and, for products and convolutions, its floating-point operations. What a
kernel costs on which GPU is left to `gpu_compile`.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

__all__ = [
    "Collective",
    "Instruction",
    "Kernel",
    "collectives",
    "computations",
    "kernels",
    "launched",
    "loop",
    "size",
]

_HEAD = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_LINE = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (\((?:[^()]|\([^()]*\))*\)|\S+) ([a-z-]+)\((.*)$")
_ARRAY = re.compile(r"\b([a-z]+\d*)\w*\[([\d,]*)\]")
_FREE = {
    "after-all", "bitcast", "constant", "get-tuple-element", "opt-barrier", "parameter", "partition-id",
    "replica-id", "tuple",
}  # fmt: skip


class Instruction(NamedTuple):
    """One line of a computation."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    attributes: str


class Kernel(NamedTuple):
    """One launch, or one call of a library, which may launch more than one."""

    name: str
    kind: str
    """`fusion`, `product` (generated), `cudnn`, `cublas`, or the opcode."""
    bytes: int
    """Read and written, each operand and result once."""
    operations: int
    """Floating-point operations of its products, two to a multiplication with addition."""


class Collective(NamedTuple):
    """An exchange between devices."""

    kind: str
    """`all-reduce`, `all-gather`, `reduce-scatter`, `all-to-all`, `collective-permute`."""
    bytes: int
    """Of its result on each device."""
    asynchronous: bool
    """Whether the program goes on while it is under way."""
    during: int
    """Kernels that are launched while it is under way."""


def computations(text: str) -> dict[str, list[Instruction]]:
    """The computations of a module by name; the one that begins is named `ENTRY`."""
    found: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = found["ENTRY" if head[1] else head[2]] = []
        elif match := _LINE.match(line):
            name, shape, opcode, rest = match.groups()
            given, _, attributes = rest.partition(")")
            current.append(
                Instruction(name, shape, opcode, tuple(re.findall(r"%([\w.-]+)", given)), attributes)
            )
    return found


def loop(module: dict[str, list[Instruction]]) -> tuple[str, int]:
    """The body of the loop that the program consists of, and how often it is run.

    Raises:
      ValueError: the program has no loop of a known length, or several.
    """
    loops = [line for line in module.get("ENTRY", ()) if line.opcode == "while"]
    if len(loops) != 1:
        raise ValueError(f"expected one loop in the program, found {len(loops)}")
    trips = re.search(r'"known_trip_count":\{"n":"(\d+)"', loops[0].attributes)
    body = re.search(r"body=%([\w.-]+)", loops[0].attributes)
    if not trips or not body:
        raise ValueError(
            "the compiler does not know how often the loop is run: the host would be asked each time"
        )
    return body[1], int(trips[1])


def size(shape: str) -> int:
    """Bytes of an array or of a tuple of arrays.

    >>> size("(f32[64,10]{1,0}, pred[], u8[0]{0})")
    2561
    """
    return math.ceil(sum(_bits(kind) * math.prod(dimensions) for kind, dimensions in _arrays(shape)) / 8)


def kernels(module: dict[str, list[Instruction]], body: str, rows: int) -> list[Kernel]:
    """What a turn of a loop launches.

    Args:
      module: the program's computations.
      body: the name of the loop's.
      rows: an operand with at least so many rows is the data set, of which a kernel reads as much as it
        gives out.
    """
    return list(_kernels(module, body, rows))


def launched(text: str, rows: int) -> tuple[list[Kernel], int]:
    """The kernels that a turn of a GPU program's loop launches, and how many turns it has.

    Args:
      text: the program's optimised HLO.
      rows: as for `kernels`.
    """
    module = computations(text)
    body, turns = loop(module)
    return kernels(module, body, rows), turns


_COLLECTIVE = re.compile(r"(all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?")


def collectives(module: dict[str, list[Instruction]], body: str) -> list[Collective]:
    """What the devices exchange in a computation, such as a turn of a loop, in the order of the schedule."""
    found, lines = [], module[body]
    for at, line in enumerate(lines):
        called = re.search(r"calls=%([\w.-]+)", line.attributes)
        inner = module.get(called[1], []) if called else []
        kinds = (_COLLECTIVE.fullmatch(each.opcode) for each in (line, *inner))
        kind = next((match[1] for match in kinds if match), None)
        if not kind:
            continue
        if not line.opcode.endswith("-start"):
            found.append(Collective(kind, size(line.shape), False, 0))
            continue
        ends = (
            i
            for i in range(at, len(lines))
            if lines[i].opcode.endswith("-done") and line.name in lines[i].operands
        )
        end = next(ends, len(lines) - 1)
        during = [each for each in lines[at + 1 : end] if each.opcode not in _FREE]
        launched = sum(not each.opcode.endswith("-done") for each in during)
        found.append(Collective(kind, size(lines[end].shape), True, launched))
    return found


def _kernels(module: dict[str, list[Instruction]], body: str, rows: int) -> Iterator[Kernel]:
    shapes = {line.name: line.shape for line in module[body]}
    for line in module[body]:
        if line.opcode in _FREE or line.opcode.endswith("-done"):
            continue
        called = re.search(r"(?:calls|to_apply)=%([\w.-]+)", line.attributes)
        if called and line.opcode in ("call", "async-start"):
            yield from _kernels(module, called[1], rows)
            continue
        if line.opcode == "while":
            raise ValueError(f"a loop within the loop: {line.name}")
        written = size(line.shape)
        read = (shapes[operand] for operand in line.operands)
        moved = written + sum(written if _rows(shape) >= rows else size(shape) for shape in read)
        inner = module[called[1]] if called and line.opcode == "fusion" else [line]
        names = {part.name: part.shape for part in inner} | shapes
        operations = sum(_operations(part, names) for part in inner)
        yield Kernel(line.name, _kind(line, operations), moved, operations)


def _kind(line: Instruction, operations: int) -> str:
    if line.opcode == "fusion":
        return "product" if operations else "fusion"
    target = re.search(r'custom_call_target="__(cudnn|cublas)', line.attributes)
    return target[1] if target else line.opcode


def _operations(line: Instruction, shapes: dict[str, str]) -> int:
    """Those of a product or a convolution; 0 of anything else."""
    if line.opcode == "dot":
        contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", line.attributes)
        left = _dimensions(shapes[line.operands[0]])
        over = [left[int(i)] for i in contracted[1].split(",") if i] if contracted else []
        return 2 * math.prod(_dimensions(line.shape)) * math.prod(over)
    labels = re.search(r"dim_labels=\w+_(\w+)->\w+", line.attributes)
    if not labels:
        return 0
    # Of inputs x, kernel and outputs y one is the result: all three directions cost the same.
    operands = [shapes[operand] for operand in line.operands]
    if "BackwardFilter" in line.attributes:
        y, kernel = operands[1], line.shape
    elif "BackwardInput" in line.attributes:
        y, kernel = operands[0], operands[1]
    else:
        y, kernel = line.shape, operands[1]
    sizes = _dimensions(kernel)
    return 2 * math.prod(_dimensions(y)) * math.prod(sizes) // sizes[labels[1].index("o")]


def _arrays(shape: str) -> list[tuple[str, list[int]]]:
    """Element type and dimensions of each array of a shape."""
    return [(kind, [int(n) for n in numbers.split(",") if n]) for kind, numbers in _ARRAY.findall(shape)]


def _dimensions(shape: str) -> list[int]:
    """Those of an array, or of the first one of a tuple."""
    return _arrays(shape)[0][1]


def _rows(shape: str) -> int:
    arrays = _arrays(shape)
    return max((dimensions[0] for _, dimensions in arrays if dimensions), default=0)


def _bits(kind: str) -> int:
    """Of an element: 8 of a `pred`, 0 of a `token`, otherwise as its name says."""
    digits = re.search(r"\d+", kind)
    return int(digits[0]) if digits else 8 * (kind == "pred")
