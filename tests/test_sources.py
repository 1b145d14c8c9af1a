"""Whatever is given for a picture comes out as decoded pictures with names, or as a DataError of one line."""

import io
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from jaxdigits.errors import DataError
from jaxdigits.sources import Source, is_batch, sources
from tests.conftest import Python
from tests.drawings import drawing, encoded, likeness, loaded, only


@pytest.fixture(scope="module")
def digits(mnist) -> np.ndarray:
    return mnist.test.images[:200, :, :, 0]


# What a source may be.


def test_sources_agree_and_are_named(digits, tmp_path):
    data = encoded(drawing(digits[0]))
    path = tmp_path / "eine Sieben ü.png"
    path.write_bytes(data)
    given = [
        path,
        str(path),
        data,
        bytearray(data),
        memoryview(data),
        io.BytesIO(data),
        Image.open(io.BytesIO(data)),
        digits[:2],
    ]
    pictures = loaded(given)
    assert len(pictures) == 9
    for picture in pictures[:7]:
        np.testing.assert_array_equal(picture.pixels, drawing(digits[0]))
    expected = ["bytes 2", "bytes 3", "bytes 4", "file 5", "picture 6", "array 7[0]", "array 7[1]"]
    assert [picture.name for picture in pictures] == [str(path), str(path), *expected]
    names = [only(one).name for one in (data, io.BytesIO(data), Image.open(io.BytesIO(data)), digits[0])]
    assert names == ["bytes", "file", "picture", "array"]
    with path.open("rb") as file:
        np.testing.assert_array_equal(only(file).pixels, drawing(digits[0]))


def test_a_generator_is_taken_as_it_comes(digits):
    taken = []

    def endless():
        while True:
            taken.append(len(taken))
            yield digits[len(taken) % 10]

    stream = sources(endless())
    for _ in range(5):
        next(stream).load()
    assert len(taken) == 5
    np.testing.assert_array_equal(loaded(digit for digit in digits[:3])[2].pixels, digits[2])
    assert [picture.name for picture in loaded(iter([digits[0], digits[1]]))] == ["array 0", "array 1"]


def test_nothing_is_read_before_it_is_loaded(tmp_path):
    path = tmp_path / "later.png"
    (source,) = sources([path])
    path.write_bytes(encoded(np.full((9, 9), 7, np.uint8)))
    assert (source.load().pixels == 7).all()


def test_folders_and_patterns(tmp_path, digits):
    for name in ("b.png", "a.PNG", "10.jpg", "deep/er/c.png", ".hidden.png", ".hidden/d.png", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(digits[0]))

    def names(given):
        return [Path(source.name).relative_to(tmp_path).as_posix() for source in sources(given)]

    assert names(tmp_path) == ["10.jpg", "a.PNG", "b.png", "deep/er/c.png"]
    assert names(str(tmp_path / "*.png")) == ["b.png"]
    assert names(str(tmp_path / "**" / "*.png")) == ["b.png", "deep/er/c.png"]
    assert names([tmp_path / "deep", tmp_path / "b.png"]) == ["deep/er/c.png", "b.png"]
    assert names(str(tmp_path / "de*")) == ["deep/er/c.png"]
    literal = tmp_path / "[x].png"
    literal.write_bytes(encoded(digits[0]))
    assert names(literal) == ["[x].png"]  # a file of that name comes before the pattern


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX's")
def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path, digits):
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(encoded(digits[0]))
    assert [picture.name for picture in loaded(tmp_path)] == [str(tmp_path / "b.png")]


def test_standard_input(monkeypatch, digits):
    stream = io.TextIOWrapper(io.BytesIO(encoded(digits[0])))
    monkeypatch.setattr(sys, "stdin", stream)
    picture = only("-")
    assert picture.name == "standard input"
    np.testing.assert_array_equal(picture.pixels, digits[0])
    with pytest.raises(DataError, match="standard input: the file is empty"):
        only("-")


def test_what_holds_several_pictures(tmp_path, digits):
    for several in (
        [],
        (),
        iter([]),
        [digits[0]],
        digits,
        digits[..., None],
        tmp_path,
        str(tmp_path),
        "a*.png",
    ):
        assert is_batch(several)
    data = encoded(digits[0])
    for one in (digits[0], digits[0][..., None], np.zeros((9, 9, 3)), data, io.BytesIO(data), "a.png", "-"):
        assert not is_batch(one)
    assert not is_batch(Image.open(io.BytesIO(data)))


# Pictures.


def test_of_several_frames_the_first_is_read_and_it_is_said(digits):
    frames = [Image.fromarray(drawing(digit)) for digit in digits[:3]]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        picture = only(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
        assert picture.note == "the first of several frames is read", kind
        assert (
            likeness(
                [picture.pixels.mean(-1) if picture.pixels.ndim == 3 else picture.pixels],
                [drawing(digits[0])],
            )[0]
            > 0.99
        )
    assert only(encoded(frames[0], "GIF")).note == ""


def test_frames_are_not_counted(monkeypatch):
    """A small TIFF file can have so many that to go through them takes seconds."""
    n, size, seen = 20_000, 2 + 8 * 12 + 4, []
    fields = {256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: 8 + n * size, 278: 1, 279: 1}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields.items())
    nexts = [8 + size * frame for frame in range(1, n)] + [0]
    frames = b"".join(struct.pack("<H", 8) + entries + struct.pack("<I", at) for at in nexts)
    data = b"II*\0" + struct.pack("<I", 8) + frames + b"\x80"
    load = TiffImagePlugin.ImageFileDirectory_v2.load
    monkeypatch.setattr(
        TiffImagePlugin.ImageFileDirectory_v2, "load", lambda self, file: seen.append(load(self, file))
    )
    picture = only(data)
    assert picture.pixels.tolist() == [[128]]
    assert picture.note == "the first of several frames is read"
    assert 0 < len(seen) < 10


def test_a_pillow_image_is_left_as_it_was(digits):
    picture = Image.open(io.BytesIO(encoded(drawing(digits[0], 40, (2000, 1500)), "JPEG")))
    only(picture)
    assert picture.size == (2000, 1500)


def test_a_large_jpeg_is_decoded_at_a_fraction(digits):
    pixels = only(encoded(drawing(digits[0], 30, (4000, 3000), (1500, 700)), "JPEG")).pixels
    assert max(pixels.shape) <= 2048


def test_orientation_is_applied(digits):
    upright = Image.fromarray(drawing(digits[4]))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    data = encoded(upright.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    np.testing.assert_array_equal(only(data).pixels, np.asarray(upright))


@pytest.mark.parametrize(
    "mode", ["1", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16", "La"]
)
def test_modes_of_pillow(digits, mode):
    canvas = Image.fromarray(drawing(digits[4]))
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(canvas).astype(np.uint16) * 257)
    elif mode == "LAB":
        blank = Image.new("L", canvas.size, 128)
        picture = Image.merge("LAB", (canvas, blank, blank))
    else:
        first = {"La": "LA", "HSV": "RGB"}.get(mode, "L")
        picture = canvas.convert(first).convert(mode)
    assert picture.mode == mode
    pixels = only(picture).pixels
    assert pixels.dtype in (np.uint8, np.float32)
    grey = pixels[..., 0] if pixels.ndim == 3 else pixels
    assert likeness([grey], [np.asarray(canvas)])[0] > 0.85  # mode 1 is dithered
    assert 250 <= grey.max() <= 255


# Arrays.


def test_shapes(digits):
    assert [picture.pixels.shape for picture in loaded(digits[:3, ..., None])] == [(28, 28)] * 3
    assert only(digits[0][..., None]).pixels.shape == (28, 28)
    assert len(loaded(digits[:28])) == 28
    assert only(np.zeros((28, 28, 3))).pixels.shape == (28, 28, 3)  # a colour picture
    assert only(np.zeros((50, 40))).pixels.shape == (50, 40)
    assert [picture.pixels.shape for picture in loaded(np.zeros((2, 50, 40, 4)))] == [(50, 40, 4)] * 2


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("top", [1, 255])
def test_floats_are_exact(digits, dtype, top):
    values = (digits.astype(np.float64) * (top / 255)).astype(dtype)
    np.testing.assert_array_equal([picture.pixels for picture in loaded(values)], digits)


def test_other_types(digits):
    jnp = pytest.importorskip("jax.numpy")
    np.testing.assert_array_equal(only(digits[0].astype(np.int64)).pixels, digits[0])
    np.testing.assert_array_equal(only(digits[0] > 127).pixels, (digits[0] > 127) * np.uint8(255))
    np.testing.assert_array_equal(only(jnp.asarray(digits[0])).pixels, digits[0])
    half = only(jnp.asarray(digits[0] / 255, jnp.bfloat16)).pixels
    assert np.abs(half.astype(int) - digits[0]).max() <= 1


def test_one_bad_image_of_a_batch_is_bad_alone(digits):
    values = digits[:4] / 255
    values[2, 3, 3] = np.nan
    values[3, 3, 3] = np.inf
    first, second, third, fourth = sources(values)
    np.testing.assert_array_equal(first.load().pixels, digits[0])
    np.testing.assert_array_equal(second.load().pixels, digits[1])
    for bad, index in ((third, 2), (fourth, 3)):
        with pytest.raises(DataError, match=rf"array\[{index}\]: holds NaN or infinite values"):
            bad.load()


# The module.


def test_import_is_light(python: Python):
    code = "import sys, jaxdigits.sources, jaxdigits.image, jaxdigits.loader; "
    code += "sys.exit(bool({'PIL', 'jax', 'matplotlib'} & set(sys.modules)))"
    assert python("-c", code).returncode == 0


def test_a_source_is_what_it_says():
    source = Source("name", lambda: (np.zeros((2, 2), np.uint8), "note"))
    assert (source.load().name, source.load().note) == ("name", "note")
