"""What `predict` makes of damaged and hostile files: an answer or one line, in bounded time and memory.

Claim: of 10,000 mutated picture files none ends in another exception than a `DataError`, none takes
longer than `SECONDS`, and the process stays below `MEBIBYTES`.

    python -m benchmarks.fuzz_pictures --count 10000

Each file is one that Pillow wrote, in one of a dozen formats, then mutated: bytes changed, most of them
in the headers; cut short; parts repeated, removed or exchanged with another file; lengths and sizes set
to extremes; and the checksums of most PNG files set right again. What is read is prepared as `predict`
does it; the network, which sees 28x28 pixels whatever comes, is left out. The last line is a JSON object.
"""

import dataclasses
import io
import json
import resource
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator

import numpy as np
import tyro
from PIL import Image

from benchmarks.flags import Count, Natural
from benchmarks.protocol import save
from jaxdigits.errors import DataError
from jaxdigits.loader import load

SECONDS = 10.0  # for one file: the largest picture that is not refused has 50 million pixels
MEBIBYTES = 2048  # of the whole process: such a picture in RGBA, twice, and what the decoders need

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 60_000, 7_000)


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Reads mutated picture files, and looks what comes of it."""

    count: Count = 10_000
    """Files."""
    seed: Natural = 0
    """Of the mutations."""


def originals() -> list[bytes]:
    """Small pictures in every format that Pillow writes and a user may have."""
    y, x = np.mgrid[:90, :110]
    ring = (abs(np.hypot(x - 60, y - 45) - 28) < 6) * np.uint8(220)
    grey = Image.fromarray(255 - ring)
    colour = Image.fromarray(np.stack([255 - ring, 250 - ring // 2, 255 - ring // 3], -1))
    clear = Image.fromarray(np.dstack([ring // 4] * 3 + [ring]))
    deep = Image.fromarray((ring.astype(np.uint16) * 256)[:40, :50])
    kinds = [
        *((picture, "PNG", {}) for picture in (grey, colour, clear, deep, colour.quantize(16))),
        *((picture, "JPEG", {"quality": 60}) for picture in (grey, colour, colour.convert("CMYK"))),
        (colour, "JPEG", {"progressive": True}),
        (colour, "GIF", {"save_all": True, "append_images": [grey.convert("RGB")]}),
        (grey, "BMP", {}),
        (colour, "BMP", {}),
        *((grey, "TIFF", {"compression": how}) for how in ("raw", "tiff_lzw", "tiff_deflate", "packbits")),
        (colour, "WEBP", {}),
        (clear, "WEBP", {"lossless": True}),
        (colour, "TGA", {}),
        (clear.resize((32, 32)), "ICO", {}),
        (grey, "PPM", {}),
        (grey, "PCX", {}),
        (colour, "JPEG2000", {}),
    ]
    exif = Image.Exif()
    exif[0x0112] = 6
    files = []
    for picture, kind, options in kinds:
        file = io.BytesIO()
        if kind in ("PNG", "JPEG", "TIFF", "WEBP"):
            options = {**options, "exif": exif}
        picture.save(file, kind, **options)
        files.append(file.getvalue())
    return files


def mutated(files: list[bytes], count: int, seed: int = 0) -> Iterator[bytes]:
    """So many files, each made from one of `files`, the same for the same seed."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        data = bytearray(files[random.integers(len(files))])
        for _ in range(random.geometric(0.7)):
            mutate(data, files, random)
        yield _with_checksums(bytes(data)) if random.random() < 0.7 else bytes(data)


def _with_checksums(data: bytes) -> bytes:
    """A PNG file with the checksums of its chunks made right, so that a decoder looks at what is in them."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    result, at = bytearray(data), 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        result[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(result)


def mutate(data: bytearray, files: list[bytes], random: np.random.Generator) -> None:
    """Changes a file in one way."""
    size = len(data)
    if size < 2:
        data += random.bytes(8)
        return
    head = min(size, 120)
    at = int(random.integers(head if random.random() < 0.6 else size))
    length = int(random.integers(1, max(2, size // 4)))
    match random.integers(7):
        case 0:
            for place in random.integers(head if random.random() < 0.5 else size, size=random.integers(1, 9)):
                data[place] = random.integers(256)
        case 1:
            width, order = int(random.choice([1, 2, 4])), ("little", "big")[random.integers(2)]
            value = int(random.choice(_EXTREMES)) % 256**width
            data[at : at + width] = value.to_bytes(width, order)
        case 2:
            del data[int(random.integers(size)) :]
        case 3:
            del data[at : at + length]
        case 4:
            data[at:at] = data[at : at + length]
        case 5:
            other = files[random.integers(len(files))]
            data[at:] = other[min(at, len(other)) :]
        case _:
            data[at : at + length] = random.bytes(length)


def check(files: Iterator[bytes]) -> dict[str, object]:
    """Reads every file, one after the other, and counts what came of it."""
    outcomes: Counter[str] = Counter()
    slowest, total, tracebacks = 0.0, 0.0, []
    for index, file in enumerate(files):
        started = time.perf_counter()
        try:
            (one,) = load(file)
            if one.error is None:
                outcomes["blank" if one.blank else "read"] += 1
            else:
                outcomes["refused"] += 1
                if "\n" in str(one.error) or not isinstance(one.error, DataError):
                    tracebacks.append({"file": index, "error": repr(one.error)})
        except Exception as error:  # what must never happen is what is looked for
            tracebacks.append({"file": index, "error": repr(error)})
        seconds = time.perf_counter() - started
        slowest, total = max(slowest, seconds), total + seconds
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return {
        "files": sum(outcomes.values()) + len(tracebacks),
        **{name: outcomes[name] for name in ("read", "blank", "refused")},
        "tracebacks": tracebacks,
        "mean_seconds": round(total / max(1, sum(outcomes.values())), 5),
        "slowest_seconds": round(slowest, 3),
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1),
    }


def main(arguments: Arguments) -> None:
    """Runs it, prints the figures, and fails where the claim does."""
    figures = check(mutated(originals(), arguments.count, arguments.seed))
    bounds = {"seconds": SECONDS, "mebibytes": MEBIBYTES}
    save("fuzz_pictures", [figures], arguments.count, {"bounds": bounds, "seed": arguments.seed})
    print(json.dumps(figures))
    slow = float(str(figures["slowest_seconds"])) > SECONDS
    large = float(str(figures["peak_memory_mib"])) > MEBIBYTES
    if figures["tracebacks"] or slow or large:
        sys.exit(1)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
