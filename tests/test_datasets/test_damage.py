"""Damaged files are refused, whole ones are not."""

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pixcon_mm.datasets.decoding import decode_whole
from tests.test_datasets.damage import FORMATS, KINDS, refused, zero_tail
from tests.test_datasets.pictures import encode, picture

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


def test_a_smooth_png_with_zeros():
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
    expected = decode_whole(encode(photograph, 'JPEG'))
    # As stereo cameras and some phones write.
    both = dict(save_all=True, append_images=[picture(2)])
    same(encode(photograph, 'MPO', **both), expected)
    frames = [picture(seed).convert('P') for seed in (3, 4)]
    content = encode(frames[0], 'GIF', save_all=True, append_images=frames[1:])
    same(content, np.asarray(frames[0].convert('RGB'))[..., ::-1])


def test_damaged_text_in_a_png_does_not_matter(photograph):
    notes = PngInfo()
    notes.add_text('Author', 'somebody')
    content = encode(photograph, 'PNG', pnginfo=notes)
    expected = np.asarray(photograph)[..., ::-1]
    same(content.replace(b'somebody', b'anybody!'), expected)
    same(content + b'a camera wrote this', expected)


@pytest.mark.parametrize('lossless', [False, True])
@pytest.mark.parametrize('colour', ['black', 'white', 'gray'])
def test_flat_webp_is_not_taken_for_an_empty_one(lossless, colour):
    flat = Image.new('RGB', (3000, 2000), colour)
    content = encode(flat, 'WEBP', lossless=lossless, method=0)
    assert np.ptp(decode_whole(content)) == 0


def test_png_with_a_chunk_missing():
    whole = encode(picture(3))
    data, end = whole.index(b'IDAT') - 4, whole.index(b'IEND') - 4
    for broken in (
        whole[:8] + whole[33:],
        whole[:data] + whole[end:],
        whole[:end],
    ):
        with pytest.raises(ValueError, match='PNG'):
            decode_whole(broken)


def test_postscript_is_not_run():
    content = encode(picture(3), 'EPS')
    with pytest.raises(ValueError, match='PostScript'):
        decode_whole(content)
