"""Odd images are decoded, broken ones never half."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pixcon_mm.datasets import decoding
from pixcon_mm.datasets.decoding import decode_whole
from tests.test_datasets.damage import FORMATS, KINDS, refused, zero_tail
from tests.test_datasets.pictures import broken_files, encode, picture

RGB = np.asarray(picture(3))
GREY = np.asarray(picture(3).convert('L'))


@pytest.fixture(autouse=True)
def _warnings_of_a_new_process():
    decoding._warn_of_12_bits.cache_clear()
    decoding._warn_of_missing_simplejpeg.cache_clear()


@pytest.fixture
def without_simplejpeg(monkeypatch):
    monkeypatch.setattr(decoding, 'simplejpeg', None)


@pytest.mark.parametrize('name', sorted(broken_files()))
def test_broken_files_are_refused(name):
    with pytest.raises(ValueError, match='.'):
        decode_whole(broken_files()[name])


@pytest.mark.usefixtures('without_simplejpeg')
@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
def test_a_decoder_that_guesses_is_not_asked(monkeypatch, kind):
    """Older OpenCV fills the lower half of a truncated file with grey."""

    def guess(content, **options):
        return np.zeros((48, 64, 3), dtype=np.uint8)

    monkeypatch.setattr('mmcv.imfrombytes', guess)
    content = encode(picture(3), kind)
    assert not decode_whole(content).any()
    with pytest.raises(ValueError, match='truncated'):
        decode_whole(content[: len(content) * 2 // 3])


# ---- damage --------------------------------------------------------------

ALWAYS_FOUND = {
    'JPEG': KINDS[:5],
    'JPEG, progressive': KINDS[:5],
    'PNG': KINDS,
    'WebP': KINDS[:3],
    'WebP, lossless': KINDS[:3],
    'AVIF': KINDS[:5],
    'GIF': KINDS[:5],
    'JPEG 2000': KINDS[:3],
    'TIFF, LZW': KINDS[:5],
    'TIFF, Deflate': KINDS[:3],
    'TIFF, JPEG': KINDS[:3],
    'TIFF, uncompressed': KINDS[:2],
    'BMP': KINDS[:2],
    'PPM': KINDS[:2],
}


@pytest.fixture(scope='module')
def photograph():
    """Smooth areas and noise, as a camera sees them."""
    smooth = np.asarray(picture(1, 400, 300)).astype(int)
    noise = np.random.default_rng(0).normal(0, 8, smooth.shape)
    return Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize('name', FORMATS)
def test_damage_is_found(photograph, name):
    kind, options = FORMATS[name]
    whole = encode(photograph, kind, **options)
    assert decode_whole(whole).shape == (300, 400, 3)
    rng = np.random.default_rng(0)
    for damage in ALWAYS_FOUND[name]:
        assert refused(damage(whole, rng)), damage.__name__


def test_a_smooth_png_with_zeros(photograph):
    """Nothing but its checksums gives it away."""
    row = np.linspace(60, 255, 240).astype(np.uint8)
    smooth = Image.fromarray(np.tile(row[None, :, None], (160, 1, 3)))
    with pytest.raises(ValueError, match='IDAT.* is damaged'):
        decode_whole(zero_tail(encode(smooth), None))


def test_png_without_its_last_rows():
    """All checksums are right; the writer stopped early."""
    whole = np.asarray(picture(3))
    half = encode(Image.fromarray(whole[:24]))
    # The header of the whole picture, the data of its upper half.
    header = len(b'\x89PNG\r\n\x1a\n') + 25
    with pytest.raises(ValueError, match='cannot be decoded'):
        decode_whole(encode(Image.fromarray(whole))[:header] + half[header:])


# ---- whole pictures in odd files -----------------------------------------


def same(content, expected):
    np.testing.assert_array_equal(decode_whole(content), expected)


@pytest.mark.parametrize('progressive', [False, True])
def test_odd_but_whole_jpeg(photograph, progressive):
    content = encode(photograph, 'JPEG', progressive=progressive)
    expected = decode_whole(content)
    same(content[:-2], expected)  # no end marker
    same(content[:-1], expected)  # half of it
    same(content + bytes(5000), expected)
    same(content + encode(picture(2), 'JPEG'), expected)  # a preview
    same(content[:-2] + bytes(9) + content[-2:], expected)  # filled up
    same(b'\xff\xd8\xff' + content[2:], expected)  # fill byte
    with pytest.raises(ValueError, match='premature end'):
        decode_whole(content[:-4])
    with pytest.raises(ValueError, match='extraneous'):
        decode_whole(content[:-2] + b'some text' * 20 + content[-2:])


def test_several_pictures_in_a_file(photograph):
    """MPO, as stereo cameras and some phones write."""
    expected = decode_whole(encode(photograph, 'JPEG'))
    both = encode(photograph, 'MPO', save_all=True, append_images=[picture(2)])
    same(both, expected)


def test_damaged_text_in_a_png_is_no_damage(photograph):
    notes = PngInfo()
    notes.add_text('Author', 'somebody')
    content = encode(photograph, 'PNG', pnginfo=notes)
    expected = np.asarray(photograph)[..., ::-1]
    same(content.replace(b'somebody', b'anybody!'), expected)


@pytest.mark.parametrize('lossless', [False, True])
@pytest.mark.parametrize('colour', ['black', 'white', 'gray'])
def test_flat_webp_is_not_taken_for_an_empty_one(lossless, colour):
    flat = Image.new('RGB', (3000, 2000), colour)
    content = encode(flat, 'WEBP', lossless=lossless, method=0)
    assert np.ptp(decode_whole(content)) == 0


def test_first_frame_of_an_animation():
    frames = [picture(seed).convert('P') for seed in (3, 4)]
    content = encode(frames[0], 'GIF', save_all=True, append_images=frames[1:])
    same(content, np.asarray(frames[0].convert('RGB'))[..., ::-1])


# ---- size ----------------------------------------------------------------


@pytest.mark.parametrize('name', FORMATS)
def test_pixels_are_counted_before_decoding(monkeypatch, name):
    """Neither decoder nor limit of Pillow is asked."""
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    kind, options = FORMATS[name]
    content = encode(picture(3), kind, **options)
    assert decode_whole(content, 48 * 64).shape == (48, 64, 3)
    assert Image.MAX_IMAGE_PIXELS == 100

    def decode(*args, **options):
        raise AssertionError('decoded')

    monkeypatch.setattr(decoding, '_decode_with_opencv', decode)
    monkeypatch.setattr(decoding, '_to_bgr', decode)
    monkeypatch.setattr(decoding.simplejpeg, 'decode_jpeg', decode)
    with pytest.raises(ValueError, match='64 x 48 is 0 megapixels, more'):
        decode_whole(content, 48 * 64 - 1)


def test_stated_limit():
    header = struct.pack('>IIBBBBB', 20_000, 10_001, 8, 2, 0, 0, 0)
    chunk = b'IHDR' + header
    content = encode(picture(3))
    content = (
        content[:12] + chunk + struct.pack('>I', zlib.crc32(chunk))
    ) + content[33:]
    with pytest.raises(ValueError, match='10001 is 200 mega.*more than 200'):
        decode_whole(content)


# ---- pixels --------------------------------------------------------------


@pytest.mark.parametrize(
    'options',
    [{}, dict(quality=30), dict(subsampling=2), dict(progressive=True)],
    ids=str,
)
def test_decoders_give_the_same_pixels(monkeypatch, options):
    content = encode(picture(3, 150, 101), 'JPEG', **options)
    expected = np.asarray(Image.open(io.BytesIO(content)))[..., ::-1]
    np.testing.assert_array_equal(decode_whole(content), expected)
    monkeypatch.setattr(decoding, 'simplejpeg', None)
    np.testing.assert_array_equal(decode_whole(content), expected)


@pytest.mark.usefixtures('without_simplejpeg')
def test_missing_simplejpeg_is_said_once(capfd):
    for seed in range(3):
        decode_whole(encode(picture(seed), 'JPEG'))
    said = capfd.readouterr().err
    assert said.count('simplejpeg is not installed') == 1


@pytest.mark.parametrize('kind', ['PNG', 'BMP', 'TIFF', 'PPM'])
def test_lossless_colour_is_bgr(kind):
    image = decode_whole(encode(picture(3), kind))
    np.testing.assert_array_equal(image, RGB[..., ::-1])
    assert image.dtype == np.uint8


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


def test_16_bit_with_bytes_after_the_end():
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
    with pytest.raises(ValueError, match='premature end'):
        decode_whole(content[: len(content) * 2 // 3])


def test_exif_orientation_is_ignored():
    image = picture(3)
    exif = image.getexif()
    exif[0x0112] = 6
    assert decode_whole(encode(image, 'JPEG', exif=exif)).shape == (48, 64, 3)


# ---- 12 bits -------------------------------------------------------------


@pytest.mark.parametrize('top', [4095, 4096])
@pytest.mark.parametrize('kind', ['PNG', 'TIFF', 'PPM'])
def test_12_bits_in_16_are_said_once(capfd, kind, top):
    values = np.linspace(1, top, 48 * 64).astype(np.uint16).reshape(48, 64)
    content = encode(Image.fromarray(values), kind)
    for _ in range(3):
        same(content, np.repeat((values >> 8)[..., None], 3, axis=2))
    said = capfd.readouterr().err
    assert said.count('stay below 4096') == (top == 4095)


@pytest.mark.parametrize('suffix', ['.png', '.tiff'])
def test_12_bits_in_colour(capfd, suffix):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 4096, (48, 64, 3)).astype(np.uint16)
    for scale, count in ((16, 0), (1, 1)):
        _, content = cv2.imencode(suffix, values * scale)
        same(content.tobytes(), values * scale >> 8)
        assert capfd.readouterr().err.count('stay below 4096') == count


def test_black_images_are_no_12_bits(capfd):
    for kind in ('PNG', 'TIFF'):
        decode_whole(encode(Image.new('I;16', (9, 9)), kind))
    assert 'warning' not in capfd.readouterr().err


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
