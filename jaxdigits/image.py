"""Any picture to MNIST's convention: the one place where pictures become model input.

MNIST's digits are white on black, 28 by 28. Each was scaled, aspect kept and edges antialiased, until
its bounding box just fitted 20 by 20, then placed with its centre of mass in the middle of the frame
(LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", 1998).
`load_images` does the same to a photograph, a scan, a drawing or an array, in small pure steps:

    decode, to grey, background level, ink (polarity, noise floor), crop, fit, centre

What is in that form already passes unchanged, bit for bit. Left to others: data sets (`dataset`),
changing pictures for training (`augment`), and reading the digit (`recognizer`). One picture holds one
digit; uneven light over the paper is not removed.
"""

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np

from jaxdigits.errors import DataError

if TYPE_CHECKING:  # Pillow and JAX are slow to import; a type needs neither
    import jax
    from PIL.Image import Image

__all__ = ["Source", "is_batch", "load_images"]

Source: TypeAlias = "str | os.PathLike[str] | bytes | IO[bytes] | Image | np.ndarray | jax.Array"

_SIDE = 28  # pixels: MNIST's frame
_BOX = 20  # pixels: the box that a digit is fitted into (LeCun et al. 1998)
_MIDDLE = 14  # pixels: in all 70,000 MNIST images the centre of mass rounds to (14, 14)

_MAX_PIXELS = 50_000_000  # more are refused before decoding: 150 MB as RGB; phones make 12 to 48 million
_MAX_BYTES = 256 * 2**20  # bytes read of one file: 50 million RGBA pixels without compression, and a margin
_WORKING_SIDE = 1024  # pixels: larger pictures are averaged down to this, 50 times the box
_DARK = 64  # grey level, of 255: MNIST's own border has a median of 0; room for noise put on top
_CONTRAST = 12  # grey levels between paper and ink; below it, only JPEG's own noise is seen
_ROUNDING = 1e-3  # of the range of values: how far arithmetic may have strayed beyond it
_FLOOR = 0.1  # of solid ink: fainter is paper; MNIST digits survive it, JPEG's ringing does not
_EDGE = 0.3  # of solid ink: where a stroke's soft edge begins; gives MNIST digits, enlarged, their size back
_SPECKLED_SIDE = 56  # pixels: in smaller pictures a stroke may be no larger than a speck


def load_images(source: "Source | Sequence[Source]") -> tuple[np.ndarray, list[str]]:
    """Loads pictures or arrays as MNIST images: white ink on black, centred by mass.

    What an array means follows from its shape, by the first rule that fits: `[28, 28]` and
    `[28, 28, 1]` are one image; `[n, 28, 28]` and `[n, 28, 28, 1]` a batch; `[h, w]`, `[h, w, 1]`,
    `[h, w, 3]` and `[h, w, 4]` one picture in grey, RGB or RGBA; `[n, h, w, 1 or 3 or 4]` a batch of
    those. Its values are booleans, integers from 0 to 255, or floats: from 0 to 1 if none exceeds 1
    (give or take 0.001), else from 0 to 255.

    A 28x28 image with light ink on a dark border passes unchanged, be it an array or a file. Anything
    else is brought into MNIST's form. Transparency is laid on white, or on black if only that shows
    anything. A picture that is all one colour is no error: it gives an all-black image.

    Args:
      source: a path, an encoded picture as bytes, a binary file (read to its end), a Pillow image, a
        NumPy or JAX array, or a list or tuple of these. Of several frames, the first counts.

    Returns:
      The images, uint8 [n, 28, 28, 1] from 0 to 255, never sharing memory with `source`; and a name
      for each: the path as given, or else its kind and position, as in "array[3]".

    Raises:
      DataError: a file is missing, empty, damaged or no picture, has over 50 million pixels or 256 MiB;
        an array has another shape, type or range, or is empty; there is nothing in the list.
    """
    if not isinstance(source, list | tuple):
        return _load(source, "")
    if not source:
        raise DataError("there is no picture in the list; expected at least one")
    loaded = [_load(member, f" {position}") for position, member in enumerate(source)]
    return np.concatenate([images for images, _ in loaded]), [name for _, names in loaded for name in names]


def is_batch(source: "Source | Sequence[Source]") -> bool:
    """Whether `load_images` reads this as several images: a list, a tuple or a batch of arrays."""
    shape = getattr(source, "shape", ())
    return (
        isinstance(source, list | tuple)
        or len(shape) == 4
        or (len(shape) == 3 and shape[-1] not in (1, 3, 4))
    )


def _load(source: Any, position: str) -> tuple[np.ndarray, list[str]]:
    """Loads one member of the list; `position` tells apart the names of those that have none."""
    pillow = sys.modules.get("PIL.Image")  # whoever holds a Pillow image has imported it
    if isinstance(source, str | os.PathLike):
        name = os.fsdecode(source)
        label = name if name.isprintable() else ascii(name)  # keeps the message on one line
        grey = _decode(_read_path(name, label), label)
    elif isinstance(source, bytes | bytearray | memoryview):
        name = label = f"bytes{position}"
        grey = _decode(bytes(source), label)
    elif pillow is not None and isinstance(source, pillow.Image):
        name = label = f"picture{position}"
        grey = _decode(source, label)
    elif hasattr(source, "read"):
        name = label = f"file{position}"
        grey = _decode(_read(source, label), label)
    elif hasattr(source, "__array__"):
        return _load_array(source, f"array{position}")
    else:
        kind = type(source).__name__
        raise DataError(f"item{position}: expected a path, bytes, file, Pillow image or array, found {kind}")
    return _image_of(grey)[None, :, :, None], [name]


def _read_path(name: str, label: str) -> bytes:
    """The content of the file at `name`."""
    try:
        with Path(name).open("rb") as file:
            return _read(file, label)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or _one_line(error)
        raise DataError(f"{label}: cannot read the picture file: {reason}") from error


def _read(file: Any, label: str) -> bytes:
    """The rest of a binary file, if it is not beyond all measure."""
    try:
        data = file.read(_MAX_BYTES + 1)
    except Exception as error:  # any object may pose as a file
        raise DataError(f"{label}: cannot be read: {_one_line(error)}") from error
    if not isinstance(data, bytes):
        raise DataError(f"{label}: expected a file opened in binary mode, found {type(data).__name__}")
    if len(data) > _MAX_BYTES:
        raise DataError(f"{label}: larger than {_MAX_BYTES // 2**20} MiB; expected one picture")
    return data


def _one_line(error: BaseException) -> str:
    """What an error says, without line breaks, or its kind if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


# ---- decode, to grey ----


def _decode(source: "bytes | Image", label: str) -> np.ndarray:
    """Decodes a picture to grey, float32 [h, w] from 0 to 255, neither side over 2 * _WORKING_SIDE.

    A damaged file makes Pillow raise almost anything, hence the wide `except`; its warnings, which are
    about the same, are kept from the caller. Its global limits are neither used nor changed.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if source == b"":
        raise DataError(f"{label}: the file is empty; expected a picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(io.BytesIO(source)) if isinstance(source, bytes) else source
            _check_size(*picture.size, label)
            if picture.format == "EPS":
                raise DataError(f"{label}: PostScript is a program, not a picture; convert it to PNG first")
            if isinstance(source, bytes):
                picture.draft(None, (_WORKING_SIDE, _WORKING_SIDE))  # JPEG: decodes a fraction only
                picture.load()
            else:
                picture = picture.copy()
            with contextlib.suppress(Exception):  # damaged EXIF data do not damage the picture
                picture = ImageOps.exif_transpose(picture)
            return _to_grey(_reduced(_plain_mode(picture)))
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{label}: not a picture in a format that Pillow reads") from error
    except Image.DecompressionBombError as error:  # raised on opening, by the size in the header
        raise DataError(f"{label}: more than {_MAX_PIXELS:,} pixels; make it smaller") from error
    except Exception as error:
        raise DataError(f"{label}: the picture is damaged: {_one_line(error)}") from error


def _check_size(width: int, height: int, label: str) -> None:
    """Refuses a picture without pixels, or with more than the memory shall bear."""
    if width < 1 or height < 1:
        raise DataError(f"{label}: {width}x{height} pixels; expected at least one")
    if width * height > _MAX_PIXELS:
        raise DataError(f"{label}: {width}x{height} is more than {_MAX_PIXELS:,} pixels; make it smaller")


def _plain_mode(picture: "Image") -> "Image":
    """Converts any of Pillow's modes to one that averaging understands: L, RGB, RGBA or F (0 to 255)."""
    from PIL import Image

    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        values = np.asarray(picture).astype(np.float32)
        if not np.isfinite(values).all():
            raise ValueError("it holds NaN or infinite values")
        top = float(values.max())
        whole = next(limit for limit in (1, 255, 65535, top) if top <= limit)
        return Image.fromarray(np.clip(values * (255 / whole), 0, 255).astype(np.float32))
    if picture.mode in ("La", "RGBa"):
        picture = picture.convert({"La": "LA", "RGBa": "RGBA"}[picture.mode])
    if picture.has_transparency_data:
        return picture.convert("RGBA")
    if picture.mode == "LAB":
        return picture.getchannel("L")
    return picture.convert("L" if picture.mode in ("1", "L") else "RGB")


def _reduced(picture: "Image") -> "Image":
    """Averages whole blocks of pixels, so that what follows costs the same for any camera."""
    factor = max(picture.size) // _WORKING_SIDE
    return picture.reduce(factor) if factor > 1 else picture


def _to_grey(picture: "Image") -> np.ndarray:
    """Grey levels, float32 [h, w] from 0 to 255, of a picture in mode L, RGB, RGBA or F."""
    values = np.asarray(picture, np.float32)
    if picture.mode in ("L", "F"):
        return values
    colour = values[:, :, :3]
    for paper in (255, 0) if picture.mode == "RGBA" else ():
        alpha = values[:, :, 3:] / 255
        colour = values[:, :, :3] * alpha + paper * (1 - alpha)
        if np.ptp(colour) >= _CONTRAST:
            break
    # Brightness shows most inks; one channel shows those that it hides, as yellow on white.
    luma = colour @ np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as in Pillow's mode L
    contrast = colour.std((0, 1))
    best = int(contrast.argmax())
    grey = colour[:, :, best] if contrast[best] > 1.5 * luma.std() else luma
    return np.clip(grey, 0, 255)


# ---- arrays ----


def _load_array(source: Any, label: str) -> tuple[np.ndarray, list[str]]:
    """Loads an array or a batch of them; images in MNIST's form are never touched one by one."""
    try:
        values = np.asarray(source)
    except Exception as error:  # an array of another library converts itself, or fails to
        raise DataError(f"{label}: cannot become a NumPy array: {_one_line(error)}") from error
    batch, single = _batch_of(values, label)
    _check_size(batch.shape[2], batch.shape[1], label)
    levels = _levels(batch, label)
    names = [label] if single else [f"{label}[{i}]" for i in range(len(levels))]
    if levels.shape[1:] != (_SIDE, _SIDE):
        return np.stack([_image_of(_array_to_grey(picture)) for picture in levels])[..., None], names
    images = np.array(levels)  # a copy: the caller may write to it
    for i in np.flatnonzero(~_is_mnist_like(levels)):
        images[i] = _normalised(levels[i].astype(np.float32))
    return images[..., None], names


def _batch_of(values: np.ndarray, label: str) -> tuple[np.ndarray, bool]:
    """Reads a shape by the rules of `load_images`.

    Returns:
      The batch, [n, 28, 28], [n, h, w] or [n, h, w, 3 or 4]; and whether it was a single image.
    """
    shape = values.shape
    if 0 in shape:
        raise DataError(f"{label}: shape {shape} is empty; expected at least one image")
    if len(shape) in (3, 4) and shape[-1] in (1, 3, 4):
        values = values[..., 0] if shape[-1] == 1 else values  # a last axis of channels
        return (values[None], True) if len(shape) == 3 else (values, False)
    if len(shape) == 3 and shape[1:] == (_SIDE, _SIDE):
        return values, False
    if len(shape) == 2:
        return values[None], True
    raise DataError(f"{label}: shape {shape}; expected (28, 28), (n, 28, 28, 1) or a picture's (h, w, 3)")


def _levels(values: np.ndarray, label: str) -> np.ndarray:
    """Values of any allowed type and range as uint8 from 0 to 255; uint8 itself is not copied."""
    kind, name = values.dtype.kind, values.dtype.name
    if values.dtype == np.uint8:
        return values
    if kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    if kind == "V" and name.startswith(("bfloat", "float")):  # JAX's own types, which NumPy has no kind for
        values, kind = values.astype(np.float32), "f"
    if kind not in "iuf":
        raise DataError(f"{label}: holds {name}; expected booleans, integers or floats")
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataError(f"{label}: holds NaN or infinite values")
    unit = kind == "f" and high <= 1 + _ROUNDING
    top = 1 if unit else 255
    if low < -_ROUNDING * top or high > (1 + _ROUNDING) * top or (kind != "f" and high > top):
        raise DataError(f"{label}: values from {low:g} to {high:g}; expected 0 to 1 (floats) or 0 to 255")
    return np.rint(np.clip(values, 0, top) * (255 / top)).astype(np.uint8)


def _array_to_grey(levels: np.ndarray) -> np.ndarray:
    """Grey levels, float32 [h, w], of a picture given as uint8 [h, w], [h, w, 3] or [h, w, 4]."""
    from PIL import Image

    return _to_grey(_reduced(Image.fromarray(levels)))


# ---- background level, ink, crop, fit, centre ----


def _is_mnist_like(images: np.ndarray) -> np.ndarray:
    """Which images are white on black already, as bool [n]; true of all 70,000 of MNIST.

    Most of the outermost ring of pixels is dark, and it is darker on average than what it surrounds.

    Args:
      images: uint8 or float32 [n, 28, 28] from 0 to 255.
    """
    edges = [images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1]]
    ring = np.concatenate(edges, axis=1)  # [n, 108]
    inside = images[:, 1:-1, 1:-1].mean((1, 2), dtype=np.float32)
    dark = np.count_nonzero(ring < _DARK, axis=1) > ring.shape[1] // 2
    return dark & (ring.mean(1, dtype=np.float32) < inside)


def _image_of(grey: np.ndarray) -> np.ndarray:
    """One picture's grey levels, float32 [h, w], as an MNIST image, uint8 [28, 28]."""
    if grey.shape == (_SIDE, _SIDE) and _is_mnist_like(grey[None])[0]:
        return np.rint(grey).astype(np.uint8)
    return _normalised(grey)


def _normalised(grey: np.ndarray) -> np.ndarray:
    """Brings grey levels, float32 [h, w] from 0 to 255, into MNIST's form, uint8 [28, 28]."""
    level, noise = _background(grey)
    ink = _crop(_ink(grey - level, noise))
    if not ink.size:
        return np.zeros((_SIDE, _SIDE), np.uint8)
    return _centred(_fit(ink))


def _background(grey: np.ndarray) -> tuple[float, float]:
    """The paper's grey level and the standard deviation of its noise, by what most of the border shows."""
    height, width = grey.shape
    margin = max(1, min(height, width) // 50)
    border = np.ones(grey.shape, bool)
    border[margin:-margin, margin:-margin] = False
    ring = grey[border]
    level = np.median(ring)
    return float(level), 1.4826 * float(np.median(np.abs(ring - level)))  # 1.4826: of a normal distribution


def _ink(deviation: np.ndarray, noise: float) -> np.ndarray:
    """How much ink lies on each pixel, float32 [h, w]: 0 is paper, 1 is solid; all 0 if there is none.

    Ink is darker or lighter than the paper, whichever deviates more. The fourth power lets a thin strong
    stroke outweigh a wide faint shade.
    """
    strength = np.square(np.square(deviation))
    dark = strength[deviation < 0].sum() >= strength[deviation > 0].sum()
    ink = np.maximum(-deviation if dark else deviation, 0)
    ink = _without_specks(ink, max(_CONTRAST / 2, 3 * noise))
    solid = float(ink.max())
    if solid < max(_CONTRAST, 4 * noise):
        return np.zeros_like(ink)
    floor = max(_FLOOR * solid, min(3 * noise, 0.4 * solid))
    return np.where(ink < floor, 0, ink / solid)


def _without_specks(ink: np.ndarray, faintest: float) -> np.ndarray:
    """Clears each pixel whose 3x3 neighbourhood holds fewer than three above `faintest`."""
    if min(ink.shape) < _SPECKLED_SIDE:
        return ink
    marked = np.pad(ink > faintest, 1).astype(np.uint8)
    rows = marked[:-2] + marked[1:-1] + marked[2:]
    return np.where(rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] < 3, 0, ink)


def _crop(ink: np.ndarray) -> np.ndarray:
    """The smallest rectangle that holds all but the soft edges of the ink; of size 0 if there is none."""
    rows, columns = np.flatnonzero((ink > _EDGE).any(1)), np.flatnonzero((ink > _EDGE).any(0))
    if not rows.size:
        return ink[:0]
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _fit(ink: np.ndarray) -> np.ndarray:
    """Scales ink into the 20x20 box, aspect kept, edges antialiased, its strongest pixel at 1."""
    from PIL import Image

    height, width = (max(1, round(side * _BOX / max(ink.shape))) for side in ink.shape)
    if (height, width) != ink.shape:
        shrinks = height * width < ink.size
        kind = Image.Resampling.HAMMING if shrinks else Image.Resampling.BICUBIC
        ink = np.maximum(np.asarray(Image.fromarray(ink).resize((width, height), kind)), 0)
    return ink / ink.max()


def _centred(digit: np.ndarray) -> np.ndarray:
    """Places a digit, float32 [h, w] within 20x20, so that its centre of mass falls on (14, 14)."""
    image = np.zeros((_SIDE, _SIDE), np.uint8)
    offsets = []
    for axis, side in enumerate(digit.shape):
        middle = np.average(np.arange(side), weights=digit.sum(1 - axis))
        offsets.append(int(np.clip(round(_MIDDLE - middle), 0, _SIDE - side)))
    top, left = offsets
    image[top : top + digit.shape[0], left : left + digit.shape[1]] = np.rint(255 * digit)
    return image
