"""Encoded pictures to pixels: Pillow, asked with care.

A picture is checked before it is decoded, so that what is no picture, is damaged, or would fill the memory
costs little and is one clear error. Where pictures come from is left to `sources`.
"""

import contextlib
import io
import threading
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdigits.errors import DataError

if TYPE_CHECKING:  # Pillow is slow to import; a type does not need it
    from PIL.Image import Image

__all__ = ["check_size", "decoded", "one_line"]

_MAX_PIXELS = 50_000_000  # more are refused before decoding: 150 MB as RGB; phones make 12 to 48 million
_DRAFT_SIDE = 1024  # pixels: a larger JPEG is decoded at a fraction of its size that is no smaller


def decoded(source: "bytes | Image", label: str) -> tuple[np.ndarray, str]:
    """Decodes a picture, turned as its EXIF data say.

    A damaged file makes Pillow raise almost anything, hence the wide `except`; its warnings, which are
    about the same, are kept from the caller. Its global limits are neither used nor changed.

    Returns:
      The pixels from 0 to 255, uint8 or float32 [h, w] grey, uint8 [h, w, 3] RGB or [h, w, 4] RGBA; and a
      note.
    """
    from PIL import Image, UnidentifiedImageError

    if source == b"":
        raise DataError(f"{label}: the file is empty; expected a picture")
    try:
        with _no_warnings:
            picture = Image.open(io.BytesIO(source)) if isinstance(source, bytes) else source
            return _pixels(picture, label, copy=not isinstance(source, bytes))
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{label}: {_foreign(source)}") from error
    except Image.DecompressionBombError as error:  # raised on opening, by the size in the header
        raise DataError(f"{label}: more than {_MAX_PIXELS:,} pixels; make it smaller") from error
    except Exception as error:
        raise DataError(f"{label}: the picture is damaged: {one_line(error)}") from error


def _foreign(source: Any) -> str:
    """What to say of a file that is no picture, by its beginning."""
    head = source[:1024].lstrip().lower() if isinstance(source, bytes) else b""
    if head.startswith(b"<svg") or (head.startswith(b"<?xml") and b"<svg" in head):
        return "SVG is a drawing, not a picture of pixels; export it as PNG first"
    if head[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1"):
        return "HEIC is not read; save it as JPEG or PNG first"
    if head.startswith(b"%pdf"):
        return "PDF is a document, not a picture; export the page as PNG first"
    return "not a picture in a format that Pillow reads"


class _PillowWarnings:
    """Keeps Pillow's warnings from the caller while any thread decodes, and all others as they are.

    `warnings.catch_warnings` would restore, at its end, what another thread has changed meanwhile.
    """

    def __init__(self):
        self._lock, self._inside, self._filter = threading.Lock(), 0, None

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                warnings.filterwarnings("ignore", module=r"PIL\.")
                self._filter = warnings.filters[0]

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                with contextlib.suppress(ValueError):  # the caller has reset the filters
                    warnings.filters.remove(self._filter)  # pyright: ignore[reportAttributeAccessIssue]


_no_warnings = _PillowWarnings()


def _pixels(picture: "Image", label: str, copy: bool) -> tuple[np.ndarray, str]:
    """The pixels of an opened picture and a note; `copy` leaves the picture as it was."""
    from PIL import ImageOps

    check_size(*picture.size, label)
    if picture.format == "EPS":
        raise DataError(f"{label}: PostScript is a program, not a picture; convert it to PNG first")
    # Asked for, not counted: of a small TIFF file with 24,000 frames that alone took four seconds.
    several = picture.format in ("GIF", "WEBP", "PNG", "TIFF") and getattr(picture, "is_animated", False)
    if copy:
        picture = picture.copy()
    else:
        picture.draft(None, (_DRAFT_SIDE, _DRAFT_SIDE))  # JPEG: decodes a fraction only
        picture.load()
    with contextlib.suppress(Exception):  # damaged EXIF data do not damage the picture
        ImageOps.exif_transpose(picture, in_place=True)
    check_size(*picture.size, label)  # an icon holds several pictures, of which one was loaded
    return _plain_mode(picture), "the first of several frames is read" if several else ""


def check_size(width: int, height: int, label: str) -> None:
    """Refuses a picture without pixels, or with more than the memory shall bear."""
    if width < 1 or height < 1:
        raise DataError(f"{label}: {width}x{height} pixels; expected at least one")
    if width * height > _MAX_PIXELS:
        raise DataError(f"{label}: {width}x{height} is more than {_MAX_PIXELS:,} pixels; make it smaller")


def _plain_mode(picture: "Image") -> np.ndarray:
    """The pixels of a picture in any of Pillow's modes, as `decoded` returns them."""
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        values = np.asarray(picture).astype(np.float32)
        if not np.isfinite(values).all():
            raise ValueError("it holds NaN or infinite values")
        top = float(values.max())
        whole = next(limit for limit in (1, 255, 65535, top) if top <= limit)
        return np.clip(values * np.float32(255 / whole), 0, 255)
    if picture.mode in ("La", "RGBa"):
        picture = picture.convert({"La": "LA", "RGBa": "RGBA"}[picture.mode])
    if picture.has_transparency_data:
        return np.asarray(picture.convert("RGBA"))
    if picture.mode == "LAB":
        return np.asarray(picture.getchannel("L"))
    if picture.mode not in ("L", "RGB"):
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    return np.asarray(picture)


def one_line(error: BaseException) -> str:
    """What an error says, without line breaks, or its kind if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
