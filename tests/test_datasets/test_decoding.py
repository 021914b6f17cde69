"""Odd images are decoded, broken ones never half."""

import io
from unittest.mock import Mock

import cv2
import mmcv
import numpy as np
import pytest
from PIL import Image

from pixcon_mm.datasets import decoding
from pixcon_mm.datasets.decoding import decode_whole, turn_upright
from tests.test_datasets.damage import FORMATS
from tests.test_datasets.pictures import encode, picture

RGB = np.asarray(picture(3))
GREY = np.asarray(picture(3).convert('L'))


@pytest.fixture(autouse=True)
def _warnings_of_a_new_process():
    decoding._warn_once.cache_clear()


def test_a_decoder_that_guesses_is_not_asked(monkeypatch):
    """Older OpenCV fills the lower half of a truncated file with grey."""

    def guess(content, **options):
        return np.zeros((48, 64, 3), dtype=np.uint8)

    monkeypatch.setattr('mmcv.imfrombytes', guess)
    content = encode(picture(3), 'PNG')
    assert not decode_whole(content).any()
    with pytest.raises(ValueError, match='truncated'):
        decode_whole(content[: len(content) * 2 // 3])


# ---- size ----------------------------------------------------------------


@pytest.mark.parametrize('name', FORMATS)
def test_pixels_are_counted_before_decoding(monkeypatch, name):
    """Neither decoder nor limit of Pillow is asked."""
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    kind, options = FORMATS[name]
    content = encode(picture(3), kind, **options)
    assert decode_whole(content, 48 * 64).shape == (48, 64, 3)
    assert Image.MAX_IMAGE_PIXELS == 100

    decode = Mock(side_effect=AssertionError('decoded'))
    monkeypatch.setattr(decoding, '_decode_with_opencv', decode)
    monkeypatch.setattr(decoding, '_to_bgr', decode)
    monkeypatch.setattr(decoding.simplejpeg, 'decode_jpeg', decode)
    with pytest.raises(ValueError, match='64 x 48 is 0 megapixels, more'):
        decode_whole(content, 48 * 64 - 1)


# ---- pixels --------------------------------------------------------------


@pytest.mark.parametrize(
    'options',
    [{}, dict(quality=30), dict(subsampling=2), dict(progressive=True)],
    ids=str,
)
def test_jpeg_has_the_pixels_of_pillow(options):
    content = encode(picture(3, 150, 101), 'JPEG', **options)
    expected = np.asarray(Image.open(io.BytesIO(content)))[..., ::-1]
    np.testing.assert_array_equal(decode_whole(content), expected)


DEEP = Image.fromarray(GREY.astype(np.uint16) * 257)
ALPHA = picture(3).convert('RGBA')
ALPHA.putalpha(Image.fromarray(GREY))


@pytest.mark.parametrize(
    ('image', 'kinds', 'error'),
    [
        (picture(3), ('PNG', 'BMP', 'TIFF', 'PPM'), 0),
        (Image.fromarray(GREY), ('PNG', 'TIFF', 'PPM'), 0),
        (Image.fromarray(GREY), ('JPEG',), 6),
        (DEEP, ('PNG', 'TIFF'), 0),
        (ALPHA, ('PNG',), 0),
        *((picture(3).convert(x), ('PNG',), 0) for x in ('P', 'LA', '1')),
    ],
)
def test_every_mode_gives_the_colours_of_pillow_in_bgr(image, kinds, error):
    expected = np.asarray(image.convert('RGB'))[..., ::-1].astype(int)
    if image is DEEP:  # whose range Pillow would cut off
        expected = np.repeat(GREY[..., None], 3, -1)
    for kind in kinds:
        found = decode_whole(encode(image, kind))
        assert found.dtype == np.uint8
        np.testing.assert_allclose(found.astype(int), expected, atol=error)


@pytest.mark.parametrize('kind', ['JPEG', 'TIFF'])
def test_cmyk_shows_the_same_colours(kind):
    image = decode_whole(encode(picture(3).convert('CMYK'), kind))
    assert np.abs(image[..., ::-1].astype(int) - RGB).mean() < 6


def test_32_bit_float_is_refused():
    with pytest.raises(ValueError, match='32-bit'):
        decode_whole(encode(Image.fromarray(GREY.astype(np.float32)), 'TIFF'))


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
def test_images_are_turned_as_openmmlabs_data_sets_see_them(kind, orientation):
    image, exif = picture(0, 20, 12), Image.Exif()
    exif[0x0112] = orientation
    content = encode(image, kind, exif=exif)
    found = turn_upright(content, decode_whole(content))
    expected = mmcv.imfrombytes(content, backend='cv2')
    np.testing.assert_array_equal(found, expected)
    if kind == 'JPEG':
        assert found.shape[:2] == ((20, 12) if orientation >= 5 else (12, 20))
        # Without its end marker, it is decoded as well.
        content = content[:-2]
        again = turn_upright(content, decode_whole(content))
        np.testing.assert_array_equal(again, expected)


def test_exif_does_not_matter():
    """Neither an orientation nor the end marker of an embedded preview."""
    image = picture(3, 256, 192)
    exif = image.getexif()
    exif[0x0112], exif[0x010E] = 6, 'x\xff\xd9x'
    content = encode(image, 'JPEG', exif=exif, quality=95)
    assert decode_whole(content).shape == (192, 256, 3)
    with pytest.raises(ValueError, match='premature end'):
        decode_whole(content[: len(content) * 2 // 3])


# ---- 12 bits -------------------------------------------------------------


@pytest.mark.parametrize('top', [4095, 4096])
@pytest.mark.parametrize('kind', ['PNG', 'TIFF', 'PPM'])
def test_12_bits_in_16_are_warned_of_once(capfd, kind, top):
    values = np.linspace(1, top, 48 * 64).astype(np.uint16).reshape(48, 64)
    content = encode(Image.fromarray(values), kind)
    expected = np.repeat((values >> 8)[..., None], 3, axis=2)
    for _ in range(3):
        np.testing.assert_array_equal(decode_whole(content), expected)
    shown = capfd.readouterr().err
    assert shown.count('stay below 4096') == (top == 4095)


@pytest.mark.parametrize('suffix', ['.png', '.tiff'])
def test_12_bits_in_colour(capfd, suffix):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 4096, (48, 64, 3)).astype(np.uint16)
    for scale, count in ((16, 0), (1, 1)):
        _, content = cv2.imencode(suffix, values * scale)
        image = decode_whole(content.tobytes())
        np.testing.assert_array_equal(image, values * scale >> 8)
        assert capfd.readouterr().err.count('stay below 4096') == count


@pytest.mark.parametrize(('kind', 'channels'), [('P5', 1), ('P6', 3)])
@pytest.mark.parametrize('top', [1, 100, 255, 4095, 65535])
def test_ppm_states_its_own_range(capfd, kind, channels, top):
    """And then no value is taken for another."""
    values = np.array([[0, top // 2, top]] * 2)[..., None]
    values = np.repeat(values, channels, axis=2)
    dtype = np.uint8 if top < 256 else '>u2'
    content = f'{kind}\n3 2\n{top}\n'.encode() + values.astype(dtype).tobytes()
    expected = np.broadcast_to(values * 255 / top, (2, 3, 3))
    np.testing.assert_allclose(decode_whole(content), expected, atol=1)
    assert 'warning' not in capfd.readouterr().err
