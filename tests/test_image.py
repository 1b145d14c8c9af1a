"""Pictures and arrays of every kind come out in MNIST's form, or as a DataError of one line."""

import contextlib
import gzip
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxdigits import image as module
from jaxdigits.errors import DataError
from jaxdigits.image import load_images

MNIST = Path(module.__file__).parent / "mnist"


def mnist(name):
    return np.frombuffer(gzip.decompress((MNIST / name).read_bytes()), np.uint8, offset=16).reshape(
        -1, 28, 28
    )


@pytest.fixture(scope="module")
def digits():
    return mnist("t10k-images-idx3-ubyte.gz")


def drawing(digit, scale=10, size=(640, 480), at=(200, 100), kernel=Image.Resampling.BICUBIC):
    """A digit enlarged, in black, somewhere on a white canvas: uint8 [h, w]."""
    canvas = np.full(size[::-1], 255, np.uint8)
    large = Image.fromarray(digit).resize((28 * scale, 28 * scale), kernel)
    canvas[at[1] : at[1] + 28 * scale, at[0] : at[0] + 28 * scale] = 255 - np.asarray(large)
    return canvas


def encoded(picture, kind="PNG", **options):
    file = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(file, kind, **options)
    return file.getvalue()


def one(source):
    images, names = load_images(source)
    assert images.shape == (1, 28, 28, 1)
    assert images.dtype == np.uint8
    assert len(names) == 1
    return images[0, :, :, 0]


def likeness(images, originals):
    """The correlation of each image with its original."""
    flat = [np.reshape(x, (len(x), -1)).astype(np.float64) for x in (images, originals)]
    a, b = (x - x.mean(1, keepdims=True) for x in flat)
    return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))


# ---- MNIST itself ----


@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte.gz", "train-images-idx3-ubyte.gz"])
def test_every_mnist_image_passes_bit_for_bit(name):
    originals = mnist(name)
    images, names = load_images(originals)
    assert np.array_equal(images[..., 0], originals)
    assert len(set(names)) == len(originals)
    images[0] = 1  # the caller's own copy
    assert originals[0].max() > 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("top", [1, 255])
def test_floats_pass_bit_for_bit(digits, dtype, top):
    values = (digits[:500].astype(np.float64) * (top / 255)).astype(dtype)
    assert np.array_equal(load_images(values)[0][..., 0], digits[:500])


def test_jax_arrays_pass(digits):
    jnp = pytest.importorskip("jax.numpy")
    assert np.array_equal(load_images(jnp.asarray(digits[:3]))[0][..., 0], digits[:3])
    half = load_images(jnp.asarray(digits[:3] / 255, jnp.bfloat16))[0][..., 0]
    assert np.abs(half.astype(int) - digits[:3]).max() <= 1


def test_other_integers_and_booleans_pass(digits):
    assert np.array_equal(one(digits[0].astype(np.int64)), digits[0])
    assert np.array_equal(one(digits[0] > 127), (digits[0] > 127) * np.uint8(255))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF"])
def test_a_file_in_mnist_form_passes_bit_for_bit(digits, kind):
    assert np.array_equal(one(encoded(digits[7], kind)), digits[7])
    assert np.array_equal(one(encoded(Image.fromarray(digits[7]).convert("RGB"))), digits[7])


# ---- what a source may be ----


def test_shapes(digits):
    few = digits[:3]
    assert load_images(few[..., None])[0].shape == (3, 28, 28, 1)
    assert load_images(few[0][..., None])[0].shape == (1, 28, 28, 1)
    assert np.array_equal(one(np.repeat(few[0][..., None], 3, 2)), few[0])  # (28, 28, 3): a colour picture
    assert load_images(digits[:28])[0].shape == (28, 28, 28, 1)
    canvas = drawing(few[0])
    for picture in (canvas, canvas[..., None], np.repeat(canvas[..., None], 3, 2)):
        assert np.array_equal(one(picture), one(canvas))
    colours = np.stack([np.dstack([canvas] * 3)] * 2)
    assert load_images(colours)[0].shape == (2, 28, 28, 1)


def test_sources_agree_and_are_named(digits, tmp_path):
    data = encoded(drawing(digits[0]))
    path = tmp_path / "eine Sieben ü.png"
    path.write_bytes(data)
    sources = [
        path,
        str(path),
        data,
        bytearray(data),
        io.BytesIO(data),
        Image.open(io.BytesIO(data)),
        digits[:2],
    ]
    images, names = load_images(sources)
    assert images.shape == (8, 28, 28, 1)
    assert all(np.array_equal(images[0], other) for other in images[1:6])
    expected = ["bytes 2", "bytes 3", "file 4", "picture 5", "array 6[0]", "array 6[1]"]
    assert names == [str(path), str(path), *expected]
    with path.open("rb") as file:
        assert np.array_equal(one(file), images[0, :, :, 0])


def test_a_pillow_image_is_left_as_it_was(digits):
    picture = Image.open(io.BytesIO(encoded(drawing(digits[0], 40, (2000, 1500)), "JPEG")))
    one(picture)
    assert picture.size == (2000, 1500)


def test_import_is_light():
    code = "import sys, jaxdigits.image; sys.exit(bool({'PIL', 'jax', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- pictures come back as the digits they show ----


@pytest.mark.parametrize(
    ("make", "bound"),
    [
        (lambda d: 255 - d, 0.98),
        (lambda d: drawing(d, 1, (60, 50), (20, 11)), 0.98),
        (lambda d: drawing(d, 4, kernel=Image.Resampling.NEAREST), 0.98),
        (lambda d: 255 - drawing(d, 4, kernel=Image.Resampling.NEAREST), 0.98),
        (drawing, 0.94),
        (lambda d: encoded(drawing(d), "JPEG", quality=60), 0.94),
        (lambda d: encoded(drawing(d, 30, (4000, 3000), (1500, 700)), "JPEG"), 0.94),
        (lambda d: 120 + drawing(d) // 8, 0.94),  # faint
        (lambda d: np.random.default_rng(0).normal(drawing(d) * 0.8 + 20, 6).clip(0, 255), 0.94),
    ],
    ids=["inverted", "offset", "pixelated", "white on black", "smooth", "jpeg", "large", "faint", "noisy"],
)
def test_drawings_come_back(digits, make, bound):
    count = 20 if make is not drawing else 200
    images = load_images([make(digit) for digit in digits[:count]])[0]
    assert likeness(images, digits[:count]).mean() > bound


@pytest.mark.parametrize("ink", [(0, 0, 200), (200, 0, 0), (255, 255, 0), (0, 255, 255), (90, 60, 40)])
def test_coloured_ink_comes_back(digits, ink):
    weight = (255 - drawing(digits[4]))[..., None] / 255
    colour = (255 * (1 - weight) + np.array(ink) * weight).astype(np.uint8)
    assert likeness([one(colour)], digits[4:5])[0] > 0.9


@pytest.mark.parametrize("ink", [0, 255, 128])
def test_transparent_paper(digits, ink):
    alpha = 255 - drawing(digits[4])
    picture = Image.fromarray(np.dstack([np.full_like(alpha, ink)] * 3 + [alpha]))
    for mode in ("RGBA", "LA"):
        assert likeness([one(picture.convert(mode))], digits[4:5])[0] > 0.9
    assert likeness([one(encoded(picture))], digits[4:5])[0] > 0.9


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
        picture = (
            canvas.convert("LA").convert(mode)
            if mode == "La"
            else canvas.convert("RGB" if mode == "HSV" else "L").convert(mode)
        )
    assert picture.mode == mode
    assert likeness([one(picture)], digits[4:5])[0] > 0.9


def test_orientation_is_applied(digits):
    upright = Image.fromarray(drawing(digits[4]))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    data = encoded(upright.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    assert np.array_equal(one(data), one(upright))


def test_place_polarity_and_scale_do_not_matter(digits):
    for digit in digits[:10]:
        here, there = drawing(digit, at=(5, 7)), drawing(digit, at=(333, 160))
        assert np.array_equal(one(here), one(there))
        assert np.array_equal(one(here), one(255 - here))
        larger = one(drawing(digit, 33, (1000, 1000), (30, 40)))
        assert likeness([one(here)], [larger])[0] > 0.93


def test_a_thin_pen_and_specks():
    canvas = np.full((500, 400), 255, np.uint8)
    canvas[100:400, 200] = 0  # one pixel wide
    clean = one(canvas)
    assert clean.max() == 255
    assert clean[clean > 0].size <= 22
    canvas[20, 30] = canvas[450, 380] = canvas[460, 20:22] = 0
    assert np.array_equal(one(canvas), clean)


@given(st.integers(8, 90), st.integers(8, 90), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_every_result_has_mnist_form(height, width, seed):
    random = np.random.default_rng(seed)
    canvas = np.full((height, width), 255, np.uint8)
    top, left = random.integers(1, height - 5), random.integers(1, width - 5)
    canvas[top : top + random.integers(3, height), left : left + random.integers(3, 5)][:-1] = 0
    canvas[-1] = 255
    result = one(canvas).astype(float)
    rows, columns = np.flatnonzero(result.any(1)), np.flatnonzero(result.any(0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    centre = [np.average(np.arange(28), weights=result.sum(1 - axis)) for axis in (0, 1)]
    assert np.abs(np.subtract(centre, 14)).max() <= 0.6


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (28, 28), (3, 700), (300, 200)])
@pytest.mark.parametrize("level", [0, 90, 255])
def test_a_blank_picture_is_black(size, level):
    assert not one(np.full(size, level, np.uint8)).any()
    assert not one(encoded(np.full(size, level, np.uint8))).any()


def test_nothing_but_noise_is_black():
    noise = np.random.default_rng(0).normal(180, 8, (400, 400)).clip(0, 255).astype(np.uint8)
    assert not one(noise).any()


# ---- what is refused ----


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ([], "no picture in the list"),
        (b"", "bytes: the file is empty"),
        (b"hello, world", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n%%EndComments\n", "bytes: "),
        (io.StringIO("text"), "binary mode"),
        (3, "expected a path"),
        (None, "expected a path"),
        ([[[0, 1], [1, 0]]], "item 0"),
        (np.zeros((0, 28, 28)), "empty"),
        (np.zeros(28), "shape"),
        (np.zeros((2, 3, 5, 7)), "shape"),
        (np.zeros((1, 1, 28, 28, 1)), "shape"),
        (np.full((28, 28), np.nan), "NaN"),
        (np.full((28, 28), np.inf), "infinite"),
        (np.full((28, 28), -1.0), "values from -1"),
        (np.full((28, 28), 256), "values from 256"),
        (np.full((28, 28), None), "holds object"),
        (np.full((28, 28), "1"), "holds str"),
        (np.zeros((28, 28), complex), "holds complex"),
        (np.broadcast_to(np.uint8(0), (8000, 8000)), "50,000,000"),
        ("no/such/file.png", "no/such/file.png: "),
        ("a\0b.png", "'a\\x00b.png': "),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isascii() and value.isprintable() else "",
)
def test_refusals_name_the_source_in_one_line(source, words):
    with pytest.raises(DataError) as caught:
        load_images(source)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_and_a_truncated_file_are_refused(digits, tmp_path):
    with pytest.raises(DataError, match="cannot read the picture file"):
        load_images(tmp_path)
    for kind in ("PNG", "JPEG", "BMP", "TIFF", "WEBP"):
        path = tmp_path / f"half.{kind}"
        data = encoded(drawing(digits[0]), kind)
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(DataError, match=f"half.{kind}: "):
            load_images(path)


@pytest.mark.parametrize("size", [(9000, 9000), (14000, 13000)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(size):
    limit = Image.MAX_IMAGE_PIXELS
    data = encoded(Image.new("1", size))
    assert len(data) < 200_000
    with pytest.raises(DataError, match="more than 50,000,000 pixels"):
        load_images(data)
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_damaged_files_give_an_image_or_a_data_error(digits, kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.fromarray(drawing(digits[0], 3, (120, 100), (20, 10)))
    whole = np.frombuffer(encoded(picture, kind, exif=exif), np.uint8)
    random = np.random.default_rng(0)
    for _ in range(120):
        data = whole.copy()
        near_start = random.random() < 0.5  # where the headers are
        places = random.integers(0, min(len(data), 100) if near_start else len(data), random.integers(1, 8))
        data[places] = random.integers(0, 256, len(places))
        source = data.tobytes()[: len(data) if random.random() < 0.8 else random.integers(0, len(data))]
        with contextlib.suppress(DataError):
            one(source)
