"""What is no picture, or a damaged one, is a DataError of one line, and nothing else happens."""

import contextlib
import io
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from benchmarks import fuzz_pictures
from jaxdigits import loader
from jaxdigits.errors import DataError
from tests.drawings import drawing, encoded, loaded, only


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ([], "no picture in the list"),
        (iter([]), "no picture in the list"),
        (b"", "bytes: the file is empty"),
        (b"hello, world", "bytes: not a picture"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "bytes: SVG is a drawing"),
        (b"%PDF-1.7 ...", "bytes: PDF is a document"),
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
        ("no/such/*.png", "no/such/*.png: "),
        ("a\0b.png", "'a\\x00b.png': "),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isascii() and value.isprintable() else "",
)
def test_refusals_name_the_source_in_one_line(source, words):
    with pytest.raises(DataError) as caught:
        loaded(source)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_pictures_and_a_truncated_file_are_refused(images, tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match="holds no picture files"):
        loaded(tmp_path)
    for kind in ("PNG", "JPEG", "BMP", "TIFF", "WEBP"):
        path = tmp_path / f"half.{kind}"
        data = encoded(drawing(images[0, :, :, 0]), kind)
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(DataError, match=f"half.{kind}: "):
            loaded(path)


@pytest.mark.parametrize("size", [(9000, 9000), (14000, 13000)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(size):
    limit = Image.MAX_IMAGE_PIXELS
    data = encoded(Image.new("1", size))
    assert len(data) < 200_000
    with pytest.raises(DataError, match="more than 50,000,000 pixels"):
        only(data)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_warnings_are_those_of_before(images):
    data = encoded(drawing(images[0, :, :, 0]), "TIFF")
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: only(data), range(40)))
    assert list(warnings.filters) == before


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_damaged_files_give_an_image_or_a_data_error(images, kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.fromarray(drawing(images[0, :, :, 0], 3, (120, 100), (20, 10)))
    whole = np.frombuffer(encoded(picture, kind, exif=exif), np.uint8)
    random = np.random.default_rng(0)
    files = []
    for _ in range(60):
        data = whole.copy()
        near_start = random.random() < 0.5  # where the headers are
        places = random.integers(0, min(len(data), 100) if near_start else len(data), random.integers(1, 8))
        data[places] = random.integers(0, 256, len(places))
        files.append(data.tobytes()[: len(data) if random.random() < 0.8 else random.integers(0, len(data))])
    for file, one in zip(files, loader.load(files), strict=True):
        if one.error:
            assert str(one.error).startswith(f"{one.name}: ")
            assert "\n" not in str(one.error)
            with contextlib.suppress(DataError):
                only(file)
                pytest.fail("refused among others, but not alone")
        else:
            assert one.image.shape == (28, 28)
            assert one.image.dtype == np.uint8


def test_mutated_files_of_every_format_give_an_image_or_a_data_error():
    figures = fuzz_pictures.check(fuzz_pictures.mutated(fuzz_pictures.originals(), 400))
    assert figures["files"] == 400
    assert figures["tracebacks"] == []
    assert int(str(figures["refused"])) > 50
    assert int(str(figures["read"])) > 50
