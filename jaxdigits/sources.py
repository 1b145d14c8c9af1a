"""Whatever a caller may give for a picture, as a lazy stream of decoded pictures with names.

A source is a path, a folder, a glob pattern, `-` for standard input, an encoded picture as bytes, a binary
file, a Pillow image, a NumPy or JAX array (one picture or a batch), or a list, tuple or generator of
these. `sources` takes it apart into single pictures, each still to be opened: nothing is read before
`Source.load`, which may run in any thread. What is wrong with a source is one clear error that names it.

How files are decoded is left to `decode`; what a picture looks like is `image`'s business.
"""

import dataclasses
import glob
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from jaxdigits.decode import check_size, decoded, one_line
from jaxdigits.errors import DataError

if TYPE_CHECKING:  # Pillow and JAX are slow to import; a type needs neither
    import jax
    from PIL.Image import Image

__all__ = ["PICTURE_SUFFIXES", "Picture", "Pictures", "Source", "file_source", "is_batch", "label", "sources"]

Single: TypeAlias = "str | os.PathLike[str] | bytes | IO[bytes] | Image | np.ndarray | jax.Array | Source"
Pictures: TypeAlias = "Single | Iterable[Single]"

# A folder's files with one of these are taken for pictures; SVG and HEIC for the sake of a clear error.
PICTURE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg"}
    | {".jpg", ".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm", ".svg", ".tga", ".tif", ".tiff", ".webp"}
)

_MAX_BYTES = 256 * 2**20  # bytes read of one file: 50 million RGBA pixels without compression, and a margin
_USUAL_BYTES = 2**20  # bytes: few files have more
_ROUNDING = 1e-3  # of the range of values: how far arithmetic may have strayed beyond it


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """One decoded picture.

    Attributes:
      name: its path as given, or its kind and place among the inputs, as in "array[3]".
      pixels: from 0 to 255: uint8 or float32 [h, w] grey, uint8 [h, w, 3] RGB or [h, w, 4] RGBA.
      note: what a reader should know of how it was read, as of a file with several frames; or "".
    """

    name: str
    pixels: np.ndarray
    note: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """One picture that is still to be opened.

    Attributes:
      name: as the picture's.
      open: decodes it: its pixels and a note.
      is_file: whether the name is that of its file, so that any process may open it.
    """

    name: str
    open: Callable[[], tuple[np.ndarray, str]]
    is_file: bool = False

    def load(self) -> Picture:
        """Reads and decodes the picture.

        Raises:
          DataError: it is missing, empty, damaged, no picture, larger than 50 million pixels or 256 MiB; or
            its array has another shape, type or range than a picture's.
        """
        pixels, note = self.open()
        return Picture(self.name, pixels, note)


def sources(pictures: "Pictures") -> Iterator[Source]:
    """Takes a source apart into single pictures, in order, one at a time.

    A folder gives the picture files in it and in its subfolders, by name; a glob pattern (`**` for any
    depth) what it matches, if no file has that very name. What an array means follows from its shape, by
    the first rule that fits: `[28, 28]` and `[28, 28, 1]` are one image; `[n, 28, 28]` and
    `[n, 28, 28, 1]` a batch; `[h, w]`, `[h, w, 1]`, `[h, w, 3]` and `[h, w, 4]` one picture in grey, RGB or
    RGBA; `[n, h, w, 1 or 3 or 4]` a batch of those. Its values are booleans, integers from 0 to 255, or
    floats: from 0 to 1 if none exceeds 1 (give or take 0.001), else from 0 to 255.

    What is wrong with one picture is raised by its `load`, so that the others can still be had. A `Source`
    stands for itself.

    Args:
      pictures: the source.

    Yields:
      The pictures, unopened.

    Raises:
      DataError: an empty list; anything that a generator among the sources raises passes unchanged.
    """
    if not _is_collection(pictures):
        yield from _expanded(pictures, "")
        return
    position = -1
    for position, member in enumerate(cast(Iterable[Any], pictures)):
        yield from _expanded(member, f" {position}")
    if position < 0:
        raise DataError("there is no picture in the list; expected at least one")


def is_batch(pictures: "Pictures") -> bool:
    """Whether a source may hold several pictures: a list, generator, batch of arrays, folder or glob."""
    if _is_collection(pictures):
        return True
    if isinstance(pictures, str | os.PathLike):
        name = os.fsdecode(pictures)
        return os.path.isdir(name) or _is_glob(name)  # noqa: PTH112 (which refuses a NUL in the name)
    shape = getattr(pictures, "shape", ())
    return len(shape) == 4 or (len(shape) == 3 and shape[-1] not in (1, 3, 4))


def _is_collection(pictures: Any) -> bool:
    """Whether this is a list, tuple, generator or the like, rather than a picture of any kind."""
    if isinstance(pictures, str | os.PathLike | bytes | bytearray | memoryview):
        return False
    picture = hasattr(pictures, "read") or hasattr(pictures, "__array__") or _is_pillow(pictures)
    return isinstance(pictures, Iterable) and not picture


def _is_pillow(source: Any) -> bool:
    pillow = sys.modules.get("PIL.Image")  # whoever holds a Pillow image has imported it
    return pillow is not None and isinstance(source, pillow.Image)


def _expanded(source: Any, position: str) -> Iterator[Source]:
    """The pictures of one member of the list; `position` tells apart the names of those that have none."""
    if isinstance(source, Source):  # it was taken out of another source before
        yield source
    elif isinstance(source, str | os.PathLike):
        yield from _of_path(os.fsdecode(source))
    elif isinstance(source, bytes | bytearray | memoryview):
        yield Source(f"bytes{position}", lambda: decoded(bytes(source), f"bytes{position}"))
    elif _is_pillow(source):
        yield Source(f"picture{position}", lambda: decoded(source, f"picture{position}"))
    elif hasattr(source, "read"):
        name = f"file{position}"
        yield Source(name, lambda: decoded(_read(source, name), name))
    elif hasattr(source, "__array__"):
        yield from _of_array(source, f"array{position}")
    else:
        kind = type(source).__name__
        yield _refused(
            f"item{position}", f"expected a path, bytes, file, Pillow image or array, found {kind}"
        )


def _refused(name: str, reason: str) -> Source:
    """A picture that cannot be had."""

    def fail() -> tuple[np.ndarray, str]:
        raise DataError(f"{label(name)}: {reason}")

    return Source(name, fail)


def label(name: str) -> str:
    """A name as it may stand in a message of one line."""
    return name if name.isprintable() else ascii(name)


# ---- paths ----


def _of_path(name: str) -> Iterator[Source]:
    """The pictures of a path, a folder, a pattern or standard input."""
    if name == "-":
        yield Source("standard input", lambda: decoded(_standard_input(), "standard input"))
    elif os.path.isdir(name):  # noqa: PTH112
        yield from _of_folder(name)
    elif _is_glob(name):
        matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 (which would change the names)
        for match in matches:
            yield from _of_folder(match) if Path(match).is_dir() else iter([file_source(match)])
        if not matches:
            yield _refused(name, "there is no such file, and the pattern matches none")
    else:
        yield file_source(name)


def _is_glob(name: str) -> bool:
    return glob.has_magic(name) and not os.path.lexists(name)


def _of_folder(name: str) -> Iterator[Source]:
    """The picture files in a folder and its subfolders, hidden ones left out, by name."""
    empty = True
    for folder, subfolders, files in os.walk(name):
        subfolders[:] = sorted(subfolder for subfolder in subfolders if not subfolder.startswith("."))
        for file in sorted(files):
            path = os.path.join(folder, file)  # noqa: PTH118 (which would change the name)
            picture = Path(file).suffix.lower() in PICTURE_SUFFIXES and not file.startswith(".")
            if picture and not Path(path).is_fifo():  # a pipe that nobody writes to would be waited for
                empty = False
                yield file_source(path)
    if empty:
        yield _refused(name, "the folder holds no picture files")


def file_source(name: str) -> Source:
    """The picture file of that name."""
    return Source(name, lambda: decoded(_read_path(name), label(name)), is_file=True)


def _read_path(name: str) -> bytes:
    """The content of the file at `name`."""
    shown = label(name)
    try:
        with Path(name).open("rb") as file:
            return _read(file, shown, min(os.fstat(file.fileno()).st_size, _MAX_BYTES) + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or one_line(error)
        raise DataError(f"{shown}: cannot read the picture file: {reason}") from error


def _standard_input() -> bytes:
    return _read(getattr(sys.stdin, "buffer", sys.stdin), "standard input")


def _read(file: Any, label: str, first: int = _USUAL_BYTES) -> bytes:
    """The rest of a binary file, not beyond all measure: at first so many bytes, of which most have fewer."""
    try:
        data = file.read(first)
        if len(data) == first:  # asked for all at once, memory for the largest would be set aside
            data += file.read(_MAX_BYTES + 1 - first)
    except Exception as error:  # any object may pose as a file
        raise DataError(f"{label}: cannot be read: {one_line(error)}") from error
    if not isinstance(data, bytes):
        raise DataError(f"{label}: expected a file opened in binary mode, found {type(data).__name__}")
    if len(data) > _MAX_BYTES:
        raise DataError(f"{label}: larger than {_MAX_BYTES // 2**20} MiB; expected one picture")
    return data


# ---- arrays ----


def _of_array(source: Any, name: str) -> Iterator[Source]:
    """The pictures of an array; what is wrong with its shape or type is wrong with all of them."""
    try:
        batch, single = _batch_of(np.asarray(source), name)
        check_size(batch.shape[2], batch.shape[1], name)
        top = _top(batch, name)
    except DataError as error:
        yield _refused(name, str(error).removeprefix(f"{name}: "))
        return
    except Exception as error:  # an array of another library converts itself, or fails to
        yield _refused(name, f"cannot become a NumPy array: {one_line(error)}")
        return
    for index, values in enumerate(batch):
        member = name if single else f"{name}[{index}]"
        yield Source(member, lambda values=values, member=member: (_levels(values, top, member), ""))


def _batch_of(values: np.ndarray, name: str) -> tuple[np.ndarray, bool]:
    """Reads a shape by the rules of `sources`.

    Returns:
      The batch, [n, h, w], [n, h, w, 3] or [n, h, w, 4]; and whether it was a single picture.
    """
    shape = values.shape
    if 0 in shape:
        raise DataError(f"{name}: shape {shape} is empty; expected at least one image")
    if len(shape) in (3, 4) and shape[-1] in (1, 3, 4):
        values = values[..., 0] if shape[-1] == 1 else values  # a last axis of channels
        return (values[None], True) if len(shape) == 3 else (values, False)
    if len(shape) == 3 and shape[1:] == (28, 28):
        return values, False
    if len(shape) == 2:
        return values[None], True
    raise DataError(f"{name}: shape {shape}; expected (28, 28), (n, 28, 28, 1) or a picture's (h, w, 3)")


def _top(values: np.ndarray, name: str) -> int:
    """The value that stands for white: 1 or 255. Values that are not finite decide nothing."""
    kind, dtype = values.dtype.kind, values.dtype.name
    if kind == "V" and dtype.startswith(("bfloat", "float")):  # JAX's own types, which NumPy has no kind for
        values, kind = values.astype(np.float32), "f"
    if kind not in "buif":
        raise DataError(f"{name}: holds {dtype}; expected booleans, integers or floats")
    if kind != "f":
        return 1 if kind == "b" else 255
    with np.errstate(invalid="ignore"):
        return 255 if np.nanmax(np.where(np.isposinf(values), 0, values), initial=0) > 1 + _ROUNDING else 1


def _levels(values: np.ndarray, top: int, name: str) -> np.ndarray:
    """A picture's values of any allowed type as uint8 from 0 to 255; uint8 itself is not copied."""
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind != "f" and values.dtype.kind in "V":
        values = values.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataError(f"{name}: holds NaN or infinite values")
    room = _ROUNDING * top if values.dtype.kind == "f" else 0
    if low < -room or high > top + room:
        raise DataError(f"{name}: values from {low:g} to {high:g}; expected 0 to 1 (floats) or 0 to 255")
    return np.rint(np.clip(values.astype(np.float64), 0, top) * (255 / top)).astype(np.uint8)
