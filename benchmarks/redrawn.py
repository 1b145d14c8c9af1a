"""MNIST's digits redrawn as the pictures that people hand in: other pens, papers, light and cameras.

Seventeen kinds, each of which changes one thing or a few that come together. Every picture is drawn by a
random generator of its own, so that the same seed gives the same pictures, and fewer are the first ones. What
is changed is the picture: the hand stays that of MNIST's writers. `handwriting` measures on them, with digits
of the test split; nothing is trained on them.
"""

import io
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float, UInt8

from benchmarks.pens import Strokes, drawn, enlarged, strokes_of
from jaxdigits.errors import UsageError

__all__ = ["KINDS", "redraw"]

Ink = Float[np.ndarray, "h w"]  # how much of each pixel is ink, from 0 to 1
Picture = Float[np.ndarray, "h w"] | Float[np.ndarray, "h w 3"]  # levels from 0 to 255
Maker = Callable[[UInt8[np.ndarray, "28 28"], Strokes, np.random.Generator], Picture]


def _laid(ink: Ink, height: int, width: int, rng: np.random.Generator) -> Ink:
    """A digit at a random place of a page, not nearer to its edge than 3 pixels where there is room."""
    page, places = np.zeros((height, width)), []
    for side, size in zip(page.shape, ink.shape, strict=True):
        room = max(0, side - size)
        margin = min(3, room // 2)
        places.append(int(rng.integers(margin, room - margin + 1)))
    inside = ink[:height, :width]
    page[places[0] : places[0] + inside.shape[0], places[1] : places[1] + inside.shape[1]] = inside
    return page


def _mixed(ink: Ink, paper: object, pen: object) -> Picture:
    """Ink on paper: both are a grey or a colour, of the whole page or of each pixel."""
    under, over = np.asarray(paper, float), np.asarray(pen, float)
    cover = ink if max(under.ndim, over.ndim) in (0, 2) else ink[..., None]
    return under * (1 - cover) + over * cover


def _smooth(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> Float[np.ndarray, "h w"]:
    """Noise that varies over so many pixels, of mean 0 and deviation 1."""
    down, right = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :]
    blur = np.exp(-2 * (np.pi * sigma) ** 2 * (down**2 + right**2))  # a Gaussian, in frequencies
    noise = np.fft.irfft2(np.fft.rfft2(rng.normal(size=shape)) * blur, shape)
    return (noise - noise.mean()) / noise.std()


def _light(height: int, width: int, rng: np.random.Generator, edge: float) -> Float[np.ndarray, "h w"]:
    """Light that falls off to one side by up to 30%, and half shadow beyond a line, with a soft edge.

    Args:
      height: of the picture, in pixels.
      width: likewise.
      rng: decides directions and places.
      edge: of the shadow, how sharp: 1 over its width, in longer sides of the picture.
    """
    y, x = np.mgrid[:height, :width] / max(height, width)
    away = [np.cos(angle) * x + np.sin(angle) * y for angle in rng.uniform(0, 2 * np.pi, 2)]
    fall = 1 - 0.3 * (away[0] - away[0].min()) / np.ptp(away[0])
    distance = away[1] - away[1][height // 2, width // 2] - rng.uniform(-0.2, 0.2)
    return fall * (1 - rng.uniform(0.25, 0.45) / (1 + np.exp(-np.clip(distance * edge, -50, 50))))


def _lines(side: int, rng: np.random.Generator, step: float, *, squared: bool) -> Picture:
    """Paper with bluish lines, across or both ways, within a degree of level: [side, side, 3]."""
    y, x = np.mgrid[:side, :side]
    tilt, start, paper = np.tan(np.deg2rad(rng.uniform(-1, 1))), rng.uniform(0, step), np.array([245.0] * 3)
    cover = np.zeros((side, side))
    for place in (y + x * tilt, x - y * tilt)[: 1 + squared]:
        distance = np.abs((place - start + step / 2) % step - step / 2)
        cover = np.maximum(cover, np.clip(max(1.0, step / 18) / 2 + 0.5 - distance, 0, 1))
    return _mixed(cover, paper, rng.uniform((90, 120, 170), (150, 180, 220)))


def _jpeg(picture: Picture, quality: int) -> Picture:
    """What is left of a picture after JPEG's compression."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(_levels(picture)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), float)


def _levels(picture: Picture) -> np.ndarray:
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def ink_on_paper(digit: np.ndarray, strokes: Strokes, rng: np.random.Generator) -> Picture:  # noqa: ARG001
    """Dark on white, the ink as MNIST has it: 120 pixels high on 200x200."""
    return _mixed(_laid(enlarged(digit, 120), 200, 200, rng), 250.0, 20.0)


def thin_pen(digit: np.ndarray, strokes: Strokes, rng: np.random.Generator) -> Picture:  # noqa: ARG001
    """A fine pen: strokes of 1.2% to 3% of the digit's height, a fifth of what MNIST's have."""
    height = rng.uniform(120, 200)
    return _mixed(_laid(drawn(strokes, height, height * rng.uniform(0.012, 0.03)), 260, 260, rng), 250, 20)


def thick_marker(digit: np.ndarray, strokes: Strokes, rng: np.random.Generator) -> Picture:  # noqa: ARG001
    """A felt pen: strokes of 15% to 20% of the digit's height."""
    height = rng.uniform(100, 180)
    return _mixed(_laid(drawn(strokes, height, height * rng.uniform(0.15, 0.2)), 280, 280, rng), 250, 20)


def _written(strokes: Strokes, height: float, rng: np.random.Generator) -> Ink:
    """A digit by an ordinary pen: strokes of 3.5% to 6% of its height."""
    return drawn(strokes, height, height * rng.uniform(0.035, 0.06))


def faint_ink(digit: np.ndarray, strokes: Strokes, rng: np.random.Generator) -> Picture:  # noqa: ARG001
    """Ink 18 to 30 of 255 levels darker than the paper, and noise of 2.5 levels."""
    ink = _laid(_written(strokes, 120, rng), 200, 200, rng)
    return _mixed(ink, 200, 200 - rng.uniform(18, 30)) + rng.normal(0, 2.5, ink.shape)


def pencil(digit: np.ndarray, strokes: Strokes, rng: np.random.Generator) -> Picture:  # noqa: ARG001
    """Grey strokes that the paper's grain breaks, pressed here more, there less."""
    ink = _laid(_written(strokes, 140, rng), 220, 220, rng)
    grain = np.clip(0.65 + 0.35 * _smooth(rng, ink.shape, 1.2), 0.1, 1)
    pressed = np.clip(0.75 + 0.2 * _smooth(rng, ink.shape, 15), 0.35, 1)
    return _mixed(ink * grain * pressed, 230, 90) + rng.normal(0, 4, ink.shape)


def coloured_ink(digit: np.ndarray, strokes: Strokes, rng: np.random.Generator) -> Picture:  # noqa: ARG001
    """Ink that differs from the paper in colour, by 110 levels or more, and hardly in brightness."""
    grey = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    while True:
        paper, pen = rng.uniform(20, 250, (2, 3))
        if abs((paper - pen) @ grey) < 8 and np.linalg.norm(paper - pen) > 110:
            break
    ink = _laid(_written(strokes, 120, rng), 200, 200, rng)
    return _mixed(ink, paper, pen) + rng.normal(0, 3, (200, 200, 3))


def chalk(digit: np.ndarray, strokes: Strokes, rng: np.random.Generator) -> Picture:  # noqa: ARG001
    """Broad, light, broken strokes on a dark and smeared board."""
    ink = _laid(drawn(strokes, 140, 140 * rng.uniform(0.06, 0.1)), 220, 220, rng)
    grain = np.clip(0.8 + 0.3 * _smooth(rng, ink.shape, 1), 0.1, 1)
    return _mixed(ink * grain, 50 + 6 * _smooth(rng, ink.shape, 12), 225) + rng.normal(0, 4, ink.shape)


def shadow(digit: np.ndarray, strokes: Strokes, rng: np.random.Generator) -> Picture:  # noqa: ARG001
    """Uneven light, and a shadow with an edge that is sharp or soft across the page."""
    ink = _laid(_written(strokes, 120, rng), 240, 200, rng)
    light = _light(240, 200, rng, edge=float(np.exp(rng.uniform(np.log(15), np.log(200)))))
    return _mixed(ink, 235, 60) * light + rng.normal(0, 2, ink.shape)


def ruled_paper(digit: np.ndarray, strokes: Strokes, rng: np.random.Generator) -> Picture:  # noqa: ARG001
    """Dark blue on lined paper, two to four lines behind the digit."""
    ink = _laid(_written(strokes, 120, rng), 240, 240, rng)
    return _mixed(ink, _lines(240, rng, rng.uniform(28, 60), squared=False), (30, 30, 90))


def squared_paper(digit: np.ndarray, strokes: Strokes, rng: np.random.Generator) -> Picture:  # noqa: ARG001
    """Dark blue on squared paper, three to seven squares to the digit."""
    ink = _laid(_written(strokes, 120, rng), 240, 240, rng)
    return _mixed(ink, _lines(240, rng, rng.uniform(18, 35), squared=True), (30, 30, 90))


def small_off_centre(digit: np.ndarray, strokes: Strokes, rng: np.random.Generator) -> Picture:  # noqa: ARG001
    """A digit of 40 to 90 pixels anywhere on 640x480, in uneven light, with noise of 4 levels."""
    height = rng.uniform(40, 90)
    ink = _laid(drawn(strokes, height, max(1.5, height * rng.uniform(0.035, 0.08))), 480, 640, rng)
    return _mixed(ink, 235, 60) * _light(480, 640, rng, edge=15) + rng.normal(0, 4, ink.shape)


def low_resolution(digit: np.ndarray, strokes: Strokes, rng: np.random.Generator) -> Picture:  # noqa: ARG001
    """A digit of 8 to 16 pixels, with one to three around it, dark on light or light on dark."""
    ink = np.pad(enlarged(digit, rng.uniform(8, 16)), rng.integers(1, 4, (2, 2)))
    return _mixed(ink, *rng.permutation([245.0, 15.0]))


def jpeg(digit: np.ndarray, strokes: Strokes, rng: np.random.Generator) -> Picture:  # noqa: ARG001
    """A digit of 80 pixels on 128x128, in JPEG's quality 10 to 20."""
    return _jpeg(_mixed(_laid(_written(strokes, 80, rng), 128, 128, rng), 240, 40), int(rng.integers(10, 21)))


def photograph(digit: np.ndarray, strokes: Strokes, rng: np.random.Generator) -> Picture:  # noqa: ARG001
    """A sheet that lies askew on a dark table, in uneven light: 640x480, in colour, JPEG of quality 75.

    The digit keeps 20 pixels from the sheet's edge.
    """
    from PIL import Image

    paper, pen = rng.uniform((215, 212, 200), 240), rng.uniform((20, 20, 60), (80, 80, 140))
    ink = np.pad(_laid(_written(strokes, rng.uniform(130, 220), rng), 290, 360, rng), 20)
    sheet = _mixed(ink, paper, pen)
    turned = Image.fromarray(_levels(sheet)).convert("RGBA")
    turned = turned.rotate(rng.uniform(-8, 8), Image.Resampling.BICUBIC, expand=True)
    table = rng.uniform((70, 50, 30), (120, 95, 70)) + 12 * _smooth(rng, (480, 640), 4)[..., None]
    picture = Image.fromarray(_levels(table))
    places = rng.integers(4, np.subtract(picture.size, turned.size) - 4)
    picture.paste(turned, (int(places[0]), int(places[1])), turned)
    lit = np.asarray(picture, float) * _light(480, 640, rng, edge=20)[..., None]
    return _jpeg(lit + rng.normal(0, 5, lit.shape), 75)


def tight_crop(digit: np.ndarray, strokes: Strokes, rng: np.random.Generator) -> Picture:  # noqa: ARG001
    """Dark on white, cut off at the ink: as high and as wide as the digit, whatever its shape."""
    height = rng.uniform(60, 150)
    return _mixed(drawn(strokes, height, height * rng.uniform(0.04, 0.12)), 250, 20)


def another_aspect(digit: np.ndarray, strokes: Strokes, rng: np.random.Generator) -> Picture:  # noqa: ARG001
    """Dark on white, a quarter to three fifths higher, or wider, than it was written."""
    ink = enlarged(digit, 80)
    higher, wider = rng.permutation([rng.uniform(1.25, 1.6), 1.0])
    return _mixed(np.pad(_scaled(ink, ink.shape[0] * higher, ink.shape[1] * wider), 10), 250, 20)


def square_box(digit: np.ndarray, strokes: Strokes, rng: np.random.Generator) -> Picture:  # noqa: ARG001
    """Cut off at the ink and scaled to a square of 16 to 32 pixels, or to three times its width."""
    ink, side = enlarged(digit, 80), rng.uniform(16, 32)
    width = min(side, 3 * side * ink.shape[1] / ink.shape[0])
    return _mixed(_scaled(ink, side, width), *rng.permutation([245.0, 15.0]))


def _scaled(ink: Ink, height: float, width: float) -> Ink:
    from PIL import Image

    picture = Image.fromarray(_levels(255 * ink))
    return np.asarray(picture.resize((round(width), round(height)), Image.Resampling.BOX), float) / 255


KINDS: dict[str, Maker] = {
    make.__name__: make
    for make in (
        *(ink_on_paper, thin_pen, thick_marker, faint_ink, pencil, coloured_ink, chalk, shadow),
        *(ruled_paper, squared_paper, small_off_centre, low_resolution, jpeg, photograph, tight_crop),
        *(another_aspect, square_box),
    )
}
"""Makers of pictures by name: a digit, uint8 white on black, its strokes and a generator to grey or RGB."""


def redraw(kind: str, digits: UInt8[np.ndarray, "n 28 28"], seed: int) -> Iterator[np.ndarray]:
    """Draws pictures of one kind, one by one: uint8 [h, w] grey or [h, w, 3] RGB.

    Args:
      kind: a key of `KINDS`.
      digits: white on black, one for each picture.
      seed: from 0.

    Raises:
      UsageError: there is no such kind, or the seed is negative.
    """
    if kind not in KINDS or seed < 0:
        raise UsageError(f"kind {kind!r}, seed {seed}; expected one of {', '.join(KINDS)} and a seed from 0")
    for index, (digit, strokes) in enumerate(zip(digits, strokes_of(digits), strict=True)):
        yield _levels(KINDS[kind](digit, strokes, np.random.default_rng([seed, index, *kind.encode()])))
