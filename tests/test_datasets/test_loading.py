"""Odd images load, broken ones never half."""

import io

import numpy as np
import pytest
from PIL import Image

from pixcon_mm.datasets import LoadSceneImage
from pixcon_mm.datasets.loading import BrokenImageError, decode_whole
from tests.test_datasets.pictures import broken_files, encode, picture

RGB = np.asarray(picture(3))
GREY = np.asarray(picture(3).convert('L'))


def load(path):
    return LoadSceneImage()(dict(img_path=str(path)))


@pytest.mark.parametrize('name', sorted(broken_files()))
def test_broken_files_are_refused(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(broken_files()[name])
    with pytest.raises(BrokenImageError, match=name):
        load(path)


@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
def test_a_decoder_that_guesses_is_not_asked(monkeypatch, kind):
    """Older OpenCV fills the lower half of a truncated file with grey."""

    def guess(content, **options):
        return np.zeros((48, 64, 3), dtype=np.uint8)

    monkeypatch.setattr('mmcv.imfrombytes', guess)
    monkeypatch.setattr('pixcon_mm.datasets.loading.simplejpeg', None)
    content = encode(picture(3), kind)
    assert not decode_whole(content).any()
    with pytest.raises(OSError, match='truncated'):
        decode_whole(content[: len(content) * 2 // 3])


@pytest.mark.parametrize(
    'options',
    [{}, dict(quality=30), dict(subsampling=2), dict(progressive=True)],
    ids=str,
)
def test_decoders_give_the_same_pixels(monkeypatch, options):
    content = encode(picture(3, 150, 101), 'JPEG', **options)
    expected = np.asarray(Image.open(io.BytesIO(content)))[..., ::-1]
    np.testing.assert_array_equal(decode_whole(content), expected)
    monkeypatch.setattr('pixcon_mm.datasets.loading.simplejpeg', None)
    np.testing.assert_array_equal(decode_whole(content), expected)


def test_vanished_file_and_folder_are_refused(tmp_path):
    for path in (tmp_path / 'gone.jpg', tmp_path):
        with pytest.raises(BrokenImageError):
            load(path)


@pytest.mark.parametrize('kind', ['PNG', 'BMP', 'TIFF', 'PPM'])
def test_lossless_colour_is_bgr(tmp_path, kind):
    path = tmp_path / 'image'
    path.write_bytes(encode(picture(3), kind))
    results = load(path)
    np.testing.assert_array_equal(results['img'], RGB[..., ::-1])
    assert results['img'].dtype == np.uint8
    assert results['img_shape'] == results['ori_shape'] == (48, 64)


@pytest.mark.parametrize('kind', ['JPEG', 'WEBP'])
def test_lossy_colour_is_close(kind):
    image = decode_whole(encode(picture(3), kind, quality=95))
    assert np.abs(image[..., ::-1].astype(int) - RGB).mean() < 3


@pytest.mark.parametrize('kind', ['PNG', 'TIFF', 'PPM', 'JPEG'])
def test_grey_has_three_equal_channels(kind):
    image = decode_whole(encode(Image.fromarray(GREY), kind))
    assert image.shape == (48, 64, 3)
    atol = 6 if kind == 'JPEG' else 0
    expected = np.repeat(GREY[..., None], 3, -1)
    np.testing.assert_allclose(image.astype(int), expected, atol=atol)


@pytest.mark.parametrize('kind', ['PNG', 'TIFF'])
def test_16_bit_keeps_its_range(kind):
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    image = decode_whole(encode(deep, kind))
    expected = np.repeat(GREY[..., None], 3, -1)
    np.testing.assert_array_equal(image, expected)


def test_16_bit_through_pillow():
    """Bytes after the end send the file to the second decoder."""
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    image = decode_whole(encode(deep, 'PNG') + b'trailing bytes')
    expected = np.repeat(GREY[..., None], 3, -1)
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize('mode', ['RGBA', 'P', 'LA', '1'])
def test_other_png_modes_equal_pillow(mode):
    odd = picture(3).convert(mode)
    if mode == 'RGBA':
        odd.putalpha(Image.fromarray(GREY))
    image = decode_whole(encode(odd))
    expected = np.asarray(odd.convert('RGB'))[..., ::-1]
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize('kind', ['JPEG', 'TIFF'])
def test_cmyk_shows_the_same_colours(kind):
    image = decode_whole(encode(picture(3).convert('CMYK'), kind))
    assert np.abs(image[..., ::-1].astype(int) - RGB).mean() < 6


def test_32_bit_float_is_refused():
    with pytest.raises(ValueError, match='32-bit'):
        decode_whole(encode(Image.fromarray(GREY.astype(np.float32)), 'TIFF'))


@pytest.mark.parametrize('tail', [b'\0' * 20, b'a camera wrote this' * 9])
@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
def test_bytes_after_the_end_do_no_harm(kind, tail):
    content = encode(picture(3), kind)
    with_tail = decode_whole(content + tail)
    gap = np.abs(with_tail.astype(int) - decode_whole(content))
    assert gap.max() <= 2


def test_thumbnail_does_not_pass_for_the_end():
    """Embedded previews carry an end marker of their own."""
    image = picture(3, 256, 192)
    exif = image.getexif()
    exif[0x010E] = 'x\xff\xd9x'
    content = encode(image, 'JPEG', exif=exif, quality=95)
    with pytest.raises(OSError, match='truncated'):
        decode_whole(content[: len(content) * 2 // 3])


def test_exif_orientation_is_ignored():
    image = picture(3)
    exif = image.getexif()
    exif[0x0112] = 6
    assert decode_whole(encode(image, 'JPEG', exif=exif)).shape == (48, 64, 3)
