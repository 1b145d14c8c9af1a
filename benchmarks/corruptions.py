"""How well models read digits that something happened to: the fifteen corruptions of MNIST-C.

Claim: the share of the test images that a model reads wrongly, clean and under each corruption, and the
mean over the fifteen. The pixels go straight into the network: nothing centres or cleans them first. No
model is trained on these images; the strengths of the preset `robust` were chosen with an eye on the same
corruptions of images held out of the training split.

    python -m benchmarks.corruptions [--model PATH] [--model PATH] [--images N] [--out FILE.json]

The corruptions are those of Mu and Gilmer (2019), "MNIST-C: A Robustness Benchmark for Computer Vision",
arXiv:1906.02337, written afresh: kinds, strengths and ranges are those of `corruptions.py` in
github.com/google-research/mnist-c, at the severities that are its defaults, with which the published set
was made. The random numbers are our own, so that single images differ from the published ones; levels are
rounded to the nearest. Two strengths there are not what they seem, and are kept: glass blur smooths along
columns only, and a shear by c takes rows from y * cos(c), x - y * sin(c).
"""

import dataclasses
import difflib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from jaxtyping import Float, UInt8

from benchmarks import filters, protocol
from benchmarks.flags import Count, Natural
from jaxdigits.errors import DataError, JaxdigitsError, UsageError
from jaxdigits.storage import sha256, write_json

__all__ = ["CORRUPTIONS", "corrupt", "measure"]

Images = UInt8[np.ndarray, "n 28 28"]
Corruption = Callable[[Images, np.random.Generator], Images]

_SIDE = 28  # pixels


def _unit(images: Images) -> Float[np.ndarray, "n 28 28"]:
    """From 0 to 1."""
    return images / 255.0


def _levels(values: Float[np.ndarray, "n 28 28"]) -> Images:
    """Back to grey levels; what is beyond black or white is cut off."""
    return np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)


def _signs(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """-1 or 1, equally likely."""
    return rng.choice(np.array([-1.0, 1.0]), shape)


def shot_noise(images: Images, rng: np.random.Generator) -> Images:
    """Counts of too little light: Poisson with a mean of 3 in a white pixel."""
    return _levels(rng.poisson(3 * _unit(images)) / 3)


def impulse_noise(images: Images, rng: np.random.Generator) -> Images:
    """Salt and pepper: 17% of the pixels are made black or white."""
    chosen, white = rng.random(images.shape) < 0.17, rng.random(images.shape) < 0.5
    return np.where(chosen, np.where(white, np.uint8(255), np.uint8(0)), images)


def glass_blur(images: Images, rng: np.random.Generator) -> Images:
    """As through frosted glass: blurred by 0.7 pixels, neighbours swapped in two passes, blurred again.

    In each pass, from the lower right, half of the pixels change places with one that is 0 or 1 pixels up
    and 0 or 1 to the left; the first two rows and columns start no swap.
    """
    blurred = filters.gaussian_blur(_unit(images), (0.7, 0.0))
    pixels = (255 * blurred).astype(np.uint8).transpose(1, 2, 0).copy()  # [28, 28, n]: swaps are contiguous
    every = np.arange(len(images))
    for _ in range(2):
        for row in range(_SIDE - 1, 1, -1):
            for column in range(_SIDE - 1, 1, -1):
                swaps, up, left = rng.integers(0, 2, (3, len(images)))
                other = row - swaps * up, column - swaps * left, every
                here, there = pixels[row, column].copy(), pixels[other]
                pixels[row, column], pixels[other] = there, here
    return _levels(filters.gaussian_blur(_unit(pixels.transpose(2, 0, 1)), (0.7, 0.0)))


def motion_blur(images: Images, rng: np.random.Generator) -> Images:
    """Smeared by 3 pixels along a line within 45 degrees of the horizontal."""
    degrees = rng.uniform(-45, 45, len(images))
    return _levels(filters.motion_blur(_unit(images), 10, 3, degrees))


def _warped(images: Images, linear: Any, shift: Any = 0.0) -> Images:
    """Warped about the middle, by a matrix [2, 2] from a pixel to its source; entries are [n] or scalar."""
    rows = [np.stack([np.broadcast_to(entry, len(images)) for entry in row], axis=-1) for row in linear]
    matrices = filters.centred_matrix(np.stack(rows, axis=1), _SIDE, shift)
    return _levels(filters.affine(_unit(images), matrices))


def shear(images: Images, rng: np.random.Generator) -> Images:
    """Slanted by 0.4 radians, to either side."""
    angle = 0.4 * _signs(rng, len(images))
    return _warped(images, [[1, -np.sin(angle)], [0, np.cos(angle)]])


def scale(images: Images, rng: np.random.Generator) -> Images:  # noqa: ARG001
    """Shrunk to 0.7 of its size."""
    return _warped(images, [[1 / 0.7, 0], [0, 1 / 0.7]])


def rotate(images: Images, rng: np.random.Generator) -> Images:
    """Turned by 0.4 radians (23 degrees), to either side."""
    angle = 0.4 * _signs(rng, len(images))
    return _warped(images, [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def brightness(images: Images, rng: np.random.Generator) -> Images:  # noqa: ARG001
    """Half of white is added."""
    return _levels(_unit(images) + 0.5)


def translate(images: Images, rng: np.random.Generator) -> Images:
    """Moved by 3 pixels along both axes, either way."""
    return _warped(images, [[1, 0], [0, 1]], 3 * _signs(rng, len(images), 2))


def stripe(images: Images, rng: np.random.Generator) -> Images:  # noqa: ARG001
    """The outer quarters, left and right, become their own negative."""
    result = images.copy()
    for part in (result[:, :, :7], result[:, :, 21:]):
        np.subtract(255, part, out=part)
    return result


def fog(images: Images, rng: np.random.Generator) -> Images:
    """A corner of a 256x256 plasma fractal, thrice as bright as the digit; then all is fitted to range."""
    values = _unit(images)
    strongest = values.max(axis=(1, 2), keepdims=True, initial=0)
    clouds = filters.plasma(len(images), 256, 1.4, rng, crop=_SIDE)
    return _levels((values + 3 * clouds) * strongest / (strongest + 3))


def spatter(images: Images, rng: np.random.Generator) -> Images:
    """Mud: blots of a quarter of white that hide what is under them."""
    liquid = filters.gaussian_blur(rng.normal(0.65, 0.3, images.shape), (1.0, 1.0))
    mud = filters.gaussian_blur((liquid > 0.65).astype(float), (1.5, 1.5))
    mud[mud < 0.8] = 0
    return _levels(_unit(images) * (1 - mud) + 63 / 255 * mud)


def dotted_line(images: Images, rng: np.random.Generator) -> Images:
    """A line from edge to edge, of dashes 2 pixels long."""
    rows = rng.integers(0, 27, (len(images), 2)).astype(float)
    starts = np.stack([np.zeros(len(images)), rows[:, 0]], axis=1)
    ends = np.stack([np.full(len(images), 27.0), rows[:, 1]], axis=1)
    drawn = np.arange(_SIDE) // 2 % 2 == 1
    return _levels(_unit(images) + filters.line(starts, ends, _SIDE) * drawn)


def zigzag(images: Images, rng: np.random.Generator) -> Images:
    """A zigzag of 2 pixels to either side of a nearly level line, turning every 4 pixels."""
    n = len(images)
    first, rise = rng.integers(0, 27, n), rng.integers(-5, 5, n)
    angle = np.arctan(rise / 23)
    length = 23 / np.cos(angle)  # from 23 to 23.6 pixels: always six turns
    along = np.stack([np.broadcast_to(place, n) for place in (0, 2, 6, 10, 14, 18, 22, length)], axis=1)
    last = -1 / (length - 20)  # where the line ends, a little off its middle
    aside = np.stack([np.broadcast_to(place, n) for place in (0, 2, -2, 2, -2, 2, -2, last)], axis=1)
    cosine, sine = np.cos(angle)[:, None], np.sin(angle)[:, None]
    points = np.stack(
        [2 + cosine * along - sine * aside, first[:, None] + sine * along + cosine * aside], axis=2
    )
    values = _unit(images)
    for start in range(points.shape[1] - 1):
        values += filters.line(points[:, start], points[:, start + 1], _SIDE)
    return _levels(values)


def canny_edges(images: Images, rng: np.random.Generator) -> Images:  # noqa: ARG001
    """Nothing but the outlines, found by Canny's method, white on black."""
    return filters.canny(_unit(images)).astype(np.uint8) * np.uint8(255)


CORRUPTIONS: dict[str, Corruption] = {
    function.__name__: function
    for function in (
        shot_noise, impulse_noise, glass_blur, motion_blur, shear, scale, rotate, brightness, translate,
        stripe, fog, spatter, dotted_line, zigzag, canny_edges,
    )
}  # fmt: skip
"""The fifteen, in the order of the paper's program, by name."""


def corrupt(name: str, images: Images, seed: int) -> Images:
    """Corrupts images, each in its own random way.

    Args:
      name: of the corruption, a key of `CORRUPTIONS`.
      images: uint8 [n, 28, 28], white on black. They stay as they are.
      seed: from 0. The same seed and the same images give the same result; of fewer images it is another.

    Returns:
      uint8 [n, 28, 28].

    Raises:
      UsageError: there is no such corruption, or the seed is negative.
      DataError: the images are of another shape or type.
    """
    if name not in CORRUPTIONS:
        near = difflib.get_close_matches(name, CORRUPTIONS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(CORRUPTIONS)}"
        raise UsageError(f"there is no corruption {name!r}; {hint}")
    if seed < 0:
        raise UsageError(f"the seed is {seed}; expected 0 or more")
    if images.dtype != np.uint8 or images.shape[1:] != (_SIDE, _SIDE):
        raise DataError(f"expected images uint8 [n, 28, 28], found {images.dtype} {list(images.shape)}")
    return CORRUPTIONS[name](images, np.random.default_rng([seed, *name.encode()]))


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Measures the error of models under the fifteen corruptions of MNIST-C."""

    model: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """A run folder or a model file; give it again for more. By default the packaged model."""
    images: Count = 10_000
    """How many test images, the first ones."""
    seed: Natural = 0
    """Of all that is random in the corruptions."""
    out: Path | None = None
    """The JSON file to write; by default one of this Python's version in benchmarks/results."""


def measure(models: Sequence[Path], count: int, seed: int, say: Callable[[str], Any]) -> list[dict[str, Any]]:
    """The errors of models on test images, clean and corrupted.

    Args:
      models: run folders or model files.
      count: how many test images, from the first on.
      seed: of the corruptions.
      say: is told what is being measured.

    Returns:
      Per model its `model`, `sha256`, `clean_error`, `errors` by corruption, and their `mean_error`; all
      errors are shares from 0 to 1.

    Raises:
      UsageError: there are not so many test images.
      DataError: there is no model, or it is damaged.
    """
    from jaxdigits import dataset, recognizer

    recognizers = [recognizer.load(path) for path in models]
    test = dataset.load("mnist").test
    if not 1 <= count <= len(test.labels):
        raise UsageError(f"--images is {count}; expected 1 to {len(test.labels)}")
    clean, labels = test.images[:count, :, :, 0], test.labels[:count]
    errors: list[dict[str, float]] = [{} for _ in models]
    for name in ("clean", *CORRUPTIONS):
        say(name)
        images = clean if name == "clean" else corrupt(name, clean, seed)
        for reader, found in zip(recognizers, errors, strict=True):
            digits = reader.probabilities(images[:, :, :, None]).argmax(axis=1)
            found[name] = float(np.mean(digits != labels))
    return [
        {
            "model": _label(path),
            "sha256": sha256(path / "model.safetensors" if path.is_dir() else path),
            "clean_error": found.pop("clean"),
            "errors": found,
            "mean_error": float(np.mean(list(found.values()))),
        }
        for path, found in zip(models, errors, strict=True)
    ]


def _label(path: Path) -> str:
    """A model's name in tables: its place in this project, or the end of its path."""
    path = path.resolve()
    return str(path.relative_to(protocol.ROOT) if path.is_relative_to(protocol.ROOT) else path.name)


def main(arguments: Arguments) -> None:
    """Measures, prints and saves."""
    from rich.console import Console
    from rich.table import Table

    from jaxdigits import device, recognizer

    device.select("auto")
    device.enable_compilation_cache()
    models, console = arguments.model or (recognizer.DEFAULT_MODEL,), Console(width=80)
    with console.status("") as status:
        runs = measure(models, arguments.images, arguments.seed, status.update)
    table = Table("error")
    for run in runs:
        table.add_column(run["model"], justify="right", overflow="fold")
    table.add_row("clean", *(f"{run['clean_error']:.2%}" for run in runs), end_section=True)
    for name in CORRUPTIONS:
        end = name == [*CORRUPTIONS][-1]
        table.add_row(name, *(f"{run['errors'][name]:.2%}" for run in runs), end_section=end)
    table.add_row("mean of 15", *(f"{run['mean_error']:.2%}" for run in runs))
    console.print(f"MNIST-C, our own port: {arguments.images:,} test images, seed {arguments.seed}", table)
    summary = {"seed": arguments.seed, "mean_error": {run["model"]: run["mean_error"] for run in runs}}
    if arguments.out is None:
        print(protocol.save("corruptions", runs, arguments.images, summary))
        return
    fields = {"benchmark": "corruptions", "n": arguments.images, "environment": protocol.environment()}
    write_json(arguments.out, fields | {"summary": summary, "runs": runs})
    print(arguments.out)


if __name__ == "__main__":
    try:
        main(tyro.cli(Arguments))
    except JaxdigitsError as error:
        print(f"benchmarks.corruptions: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
