"""Pages of handwritten numbers, composed from single MNIST digits, with the truth about them.

A page is drawn the way a person might fill one: lines of numbers in one ink on one paper, of a size, a
slant and a spacing that vary from page to page and a little from digit to digit; some neighbours touch,
the light is uneven, the sensor adds noise. The same generator state gives the same page, bit for bit. Both
the tests and `benchmarks.pages` read them; which split the digits are from is the caller's choice.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.random import Generator
from PIL import Image

__all__ = ["KINDS", "Kind", "Page", "compose", "make_page"]

Kind = Literal["code", "amount", "column"]
KINDS: tuple[Kind, ...] = ("code", "amount", "column")

_BOX = 20  # pixels: the height of an MNIST digit
_TOUCHING = 0.08  # of all neighbours
_HEIGHTS = (20.0, 120.0)  # pixels: of a page's digits
_SLANT = 0.25  # largest slant of a page, in pixels per pixel
_MARGIN = 0.6  # of the digits' height: the least paper on each side


@dataclasses.dataclass(frozen=True, eq=False)
class Page:
    """A picture and what it says.

    Attributes:
      picture: uint8 [h, w, 3], RGB.
      lines: the digits of each line, from top to bottom.
      boxes: of each digit in reading order, int [n, 4]: left, top, right, bottom, in pixels.
      touching: how many pairs of neighbours touch.
    """

    picture: np.ndarray
    lines: tuple[str, ...]
    boxes: np.ndarray
    touching: int

    @property
    def text(self) -> str:
        """All digits, line by line."""
        return "\n".join(self.lines)


def make_page(images: np.ndarray, labels: np.ndarray, random: Generator, kind: Kind | None = None) -> Page:
    """Draws a page of postal codes, of amounts or of columns of figures.

    Args:
      images: uint8 [n, 28, 28, 1] or [n, 28, 28], white on black: the digits to draw from.
      labels: integers [n], what they are.
      random: decides everything.
      kind: what the page holds; None leaves that to `random` too.
    """
    kind = kind or KINDS[random.integers(len(KINDS))]
    if kind == "code":
        texts = [_number(random, 5) for _ in range(random.integers(1, 4))]
    elif kind == "amount":
        texts = [_amount(random) for _ in range(random.integers(1, 4))]
    else:
        texts = [_number(random, int(random.integers(1, 7))) for _ in range(random.integers(3, 9))]
    return compose(texts, images, labels, random)


def _number(random: Generator, length: int) -> str:
    return "".join(map(str, random.integers(0, 10, length)))


def _amount(random: Generator) -> str:
    whole = _number(random, int(random.integers(1, 6)))
    point, group = ".,"[:: random.choice([1, -1])]
    if len(whole) > 3 and random.random() < 0.5:
        whole = f"{whole[:-3]}{group}{whole[-3:]}"
    return f"{whole}{point}{_number(random, 2)}"


def compose(
    texts: Sequence[str],
    images: np.ndarray,
    labels: np.ndarray,
    random: Generator,
    *,
    height: float | None = None,
    touching: float = _TOUCHING,
    plain: bool = False,
) -> Page:
    """Draws given lines of digits, points and commas.

    Args:
      texts: the lines.
      images: uint8 [n, 28, 28, 1] or [n, 28, 28], white on black.
      labels: integers [n].
      random: decides everything that is not given.
      height: of the digits, in pixels.
      touching: the share of neighbours that touch.
      plain: black on white, without slant, shade or noise.
    """
    images = np.asarray(images).reshape(-1, 28, 28)
    height = height or float(np.exp(random.uniform(*np.log(_HEIGHTS))))
    slant = 0.0 if plain else random.uniform(-_SLANT, _SLANT)
    gap, jitter = random.uniform(0.08, 0.45), 0.0 if plain else 0.08
    right_aligned = len(texts) > 1 and random.random() < 0.5
    lines: list[tuple[np.ndarray, np.ndarray, int]] = []
    for text in texts:
        glyphs = []
        for character in text:
            tall = height * (1 + jitter * random.uniform(-1, 1))
            if character.isdigit():
                chosen = images[random.choice(np.flatnonzero(labels == int(character)))]
                glyphs.append(_glyph(chosen, tall / _BOX, slant + jitter * random.uniform(-1, 1)))
            else:
                glyphs.append(_mark(character, tall))
        lines.append(_line(text, glyphs, height, gap, touching, jitter, random))
    ink, boxes = _stack(lines, height, right_aligned, random)
    picture = _paint(ink, random, plain=plain)
    digits = tuple("".join(filter(str.isdigit, text)) for text in texts)
    return Page(picture, digits, boxes, sum(line[2] for line in lines))


def _glyph(image: np.ndarray, scale: float, slant: float) -> np.ndarray:
    """One digit, scaled and slanted, cut out: float32 [h, w] from 0 to 1."""
    side = round(28 * scale * 1.6)
    middle = side / 2
    # From a pixel of the result back to one of the digit: x moves with y, both shrink.
    matrix = (1 / scale, slant / scale, 14 - (1 + slant) * middle / scale, 0, 1 / scale, 14 - middle / scale)
    # Enlarged, a digit gets the sharp edge of ink back that 28 pixels could not hold.
    picture = Image.fromarray(image).transform(
        (side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC
    )
    sharpness = max(1.0, scale / 1.5)
    ink = np.clip((np.asarray(picture, np.float32) / 255 - 0.45) * sharpness + 0.45, 0, 1)
    return _cut_out(ink)


def _cut_out(ink: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero((ink > 0.3).any(1)), np.flatnonzero((ink > 0.3).any(0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _mark(character: str, height: float) -> np.ndarray:
    """A point or a comma for digits of this height, to stand on the base line: float32 [h, w]."""
    dot = max(2, round(0.13 * height))
    if character == ".":
        return np.ones((dot, dot), np.float32)
    tall = max(4, round(0.28 * height))
    rows, columns = np.mgrid[:tall, : 2 * dot]
    axis = 1.5 * dot - columns.shape[1] * 0.5 * rows / tall  # leans to the left, downwards
    return (np.abs(columns + 0.5 - axis) < dot / 2).astype(np.float32)


def _line(
    text: str,
    glyphs: list[np.ndarray],
    height: float,
    gap: float,
    touching: float,
    jitter: float,
    random: Generator,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Sets glyphs side by side: the line's ink, the boxes of its digits, and how many pairs touch."""
    tall, base = round(2.2 * height), round(1.5 * height)
    ink = np.zeros((tall, round(sum(g.shape[1] + 0.8 * height for g in glyphs)) + tall), np.float32)
    boxes, touches, end = [], 0, 0  # `end`: the first column right of the ink
    for position, (character, glyph) in enumerate(zip(text, glyphs, strict=True)):
        drop = round(jitter * height * random.uniform(-1, 1))
        bottom = base + drop + (glyph.shape[0] // 2 if character == "," else 0)
        top = bottom - glyph.shape[0]
        start = end + max(1, round(gap * height * random.uniform(0.7, 1.3))) if position else 0
        pair = position > 0 and character.isdigit() and text[position - 1].isdigit()
        if pair:
            meeting = _meeting(ink[top:bottom], glyph, end)
            if random.random() < touching:
                start, touches = meeting - max(1, round(0.02 * height)), touches + 1
            else:  # a slanted neighbour may reach over, but not touch
                start = max(start, meeting + max(2, round(0.04 * height)))
        region = ink[top:bottom, start : start + glyph.shape[1]]
        np.maximum(region, glyph, out=region)
        end = max(end, start + glyph.shape[1])
        if character.isdigit():
            boxes.append((start, top, start + glyph.shape[1], bottom))
    return ink[:, :end], np.array(boxes).reshape(-1, 4), touches


def _meeting(ink: np.ndarray, glyph: np.ndarray, end: int) -> int:
    """The column at which a glyph that is pushed to the left would first touch the ink before it."""
    before, after = ink[:, :end] > 0.5, glyph > 0.5
    last = np.where(before.any(1), before.shape[1] - before[:, ::-1].argmax(1), -(10**6))
    first = np.where(after.any(1), after.argmax(1), 10**6)
    near = [np.roll(last, shift) for shift in (-1, 0, 1)]  # a stroke touches the rows beside it, too
    meeting = int((np.max(near, axis=0) - first).max())
    return meeting if meeting > -(10**5) else end


def _stack(
    lines: Sequence[tuple[np.ndarray, np.ndarray, int]], height: float, right_aligned: bool, random: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Sets lines below each other on a page: its ink and the boxes of all digits."""
    margins = [round(height * random.uniform(_MARGIN, 2)) for _ in range(4)]
    pitch = round(height * random.uniform(1.6, 2.2))
    wide = max(line.shape[1] for line, _, _ in lines)
    tall = round(2.2 * height) + pitch * (len(lines) - 1)
    ink = np.zeros((tall + margins[1] + margins[3], wide + margins[0] + margins[2]), np.float32)
    boxes = []
    for row, (line, inside, _) in enumerate(lines):
        left = margins[0] + (wide - line.shape[1] if right_aligned else 0)
        top = margins[1] + row * pitch
        region = ink[top : top + line.shape[0], left : left + line.shape[1]]
        np.maximum(region, line, out=region)
        boxes.append(inside + np.array([left, top, left, top]))
    return ink, np.concatenate(boxes)


def _paint(ink: np.ndarray, random: Generator, *, plain: bool) -> np.ndarray:
    """Ink on paper, in colour, under a light from one side, with noise: uint8 [h, w, 3]."""
    if plain:
        return np.repeat(np.rint(255 * (1 - ink)).astype(np.uint8)[..., None], 3, axis=2)
    pale, dark = random.uniform(190, 255, 3), random.uniform(0, 110, 3)
    paper, pen = (pale, dark) if random.random() < 0.8 else (dark * 0.6, pale)
    density = random.uniform(0.8, 1) * ink[..., None]
    colour = paper * (1 - density) + pen * density
    height, width = ink.shape
    rows, columns = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    angle, depth = random.uniform(0, 2 * np.pi), random.uniform(0, 0.3)
    light = 1 - depth * (1 + np.cos(angle) * rows + np.sin(angle) * columns) / 2
    noise = random.normal(0, random.uniform(0, 6), (height, width, 1))
    return np.clip(np.rint(colour * light[..., None] + noise), 0, 255).astype(np.uint8)
