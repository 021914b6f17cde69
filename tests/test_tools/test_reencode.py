"""Copies are smaller, never larger, and look as the originals would."""

import io

import numpy as np
import pytest
from PIL import ExifTags, Image, JpegImagePlugin

from pixcon_mm.datasets.loading import decode_whole
from pixcon_mm.tools.reencode_images import (
    encode_jpeg,
    reencode,
    scaled_size,
)
from tests.test_datasets.pictures import encode, picture


@pytest.mark.parametrize(
    ('size', 'short_side', 'expected'),
    [
        ((640, 480), 360, (480, 360)),
        ((480, 640), 360, (360, 480)),
        ((500, 375), 256, (341, 256)),
        ((640, 480), 480, (640, 480)),
        ((640, 480), 500, (640, 480)),
        ((640, 480), None, (640, 480)),
        ((3, 9000), 1, (1, 3000)),
    ],
)
def test_sizes(size, short_side, expected):
    assert scaled_size(*size, short_side) == expected


def test_encoding_is_close_and_subsampled():
    image = np.asarray(picture(3, 150, 101))[..., ::-1]
    content = encode_jpeg(image, 90, None)
    again = decode_whole(content)
    assert np.abs(again.astype(int) - image).mean() < 2
    with Image.open(io.BytesIO(content)) as copy:
        assert JpegImagePlugin.get_sampling(copy) == 2  # 4:2:0
        assert not copy.info.get('progressive')


def test_scaling_is_antialiased():
    """Stripes finer than the copy's pixels become grey, not other stripes."""
    image = np.zeros((96, 128, 3), np.uint8)
    image[:, ::2] = 255
    small = decode_whole(encode_jpeg(image, 95, 31))
    assert small.shape == (31, 41, 3)
    assert np.abs(small[:, 2:-2].astype(int) - 127.5).max() < 20


@pytest.mark.parametrize('quality', [90, 94, 100])
def test_noise_can_be_encoded(quality):
    """It takes more bytes than some encoders make room for."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 2, (300, 400, 3), dtype=np.uint8) * 255
    assert decode_whole(encode_jpeg(noise, quality, None)).shape == noise.shape


def exif(orientation):
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    return tags.tobytes()


@pytest.mark.parametrize(
    ('kind', 'options', 'is_copied'),
    [
        ('JPEG', {}, True),
        ('JPEG', dict(exif=exif(1)), True),
        ('JPEG', dict(exif=b'Exif\0\0nonsense'), True),
        ('JPEG', dict(exif=exif(6)), False),
        ('JPEG', dict(progressive=True), False),
        ('WEBP', {}, False),
    ],
    ids=str,
)
def test_small_jpeg_that_would_grow_is_copied(
    tmp_path, kind, options, is_copied
):
    source, copy = tmp_path / 'a', tmp_path / 'b.jpg'
    source.write_bytes(encode(picture(3), kind, quality=20, **options))
    original = decode_whole(source.read_bytes())
    assert len(encode_jpeg(original, 95, None)) > len(source.read_bytes())
    assert reencode((source, copy), 95, None) is None
    assert (copy.read_bytes() == source.read_bytes()) == is_copied
    # Whichever it is, the pixels are where pre-training saw them.
    result = decode_whole(copy.read_bytes())
    assert np.abs(result.astype(int) - original).mean() < 3
    with Image.open(copy) as image:
        assert image.format == 'JPEG'
        assert image.getexif().get(ExifTags.Base.Orientation, 1) == 1


def test_what_only_pillow_refuses_is_not_copied(tmp_path, monkeypatch):
    source, copy = tmp_path / 'a', tmp_path / 'b.jpg'
    source.write_bytes(encode(picture(3), 'JPEG', quality=20))
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    assert reencode((source, copy), 95, None) is None
    assert copy.stat().st_size > source.stat().st_size


def test_large_jpeg_is_never_copied(tmp_path):
    source, copy = tmp_path / 'a', tmp_path / 'b.jpg'
    source.write_bytes(encode(picture(3, 256, 192), 'JPEG', quality=1))
    assert reencode((source, copy), 100, 180) is None
    assert copy.stat().st_size > source.stat().st_size
    with Image.open(copy) as image:
        assert image.size == (240, 180)


def test_longer_than_a_jpeg_can_be(tmp_path):
    source, copy = tmp_path / 'a.png', tmp_path / 'b.jpg'
    source.write_bytes(encode(Image.new('RGB', (65501, 2))))
    assert 'cannot be written as JPEG' in reencode((source, copy), 90, None)
    assert not copy.exists()
    assert reencode((source, copy), 90, 1) is None
    with Image.open(copy) as image:
        assert image.size == (round(65501 / 2), 1)
