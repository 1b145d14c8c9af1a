"""How hostile input is made: files changed byte by byte, and values drawn by Hypothesis."""

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import fuzz_pictures

__all__ = ["Files", "bytewise", "drawn", "json_values", "write"]

Files = dict[str, bytes]


def bytewise(files: Files, count: int, seed: int) -> Iterator[Files]:
    """So many mutations of one of the files, each under its name."""
    streams = {
        name: fuzz_pictures.mutated([content], count, seed + i)
        for i, (name, content) in enumerate(files.items())
    }
    for name in itertools.islice(itertools.cycle(files), count):
        yield {name: next(streams[name])}


def drawn(strategy: Any, count: int, seed: int) -> list[Any]:
    """So many values of a strategy of Hypothesis."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    found: list[Any] = []
    still = settings(
        max_examples=count, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=[*HealthCheck],  # pyright: ignore[reportArgumentType]
    )  # fmt: skip

    @seeded(seed)
    @still
    @given(strategy)
    def collect(value: Any) -> None:
        found.append(value)

    collect()
    return found


def json_values() -> Any:
    """A strategy for any value of JSON."""
    from hypothesis import strategies as st

    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    return st.recursive(leaves, lambda x: st.lists(x) | st.dictionaries(st.text(), x), max_leaves=5)


def write(folder: Path, files: Files) -> None:
    """Leaves these files in a folder, and no others."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
