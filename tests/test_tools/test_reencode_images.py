"""Copies look as the originals would, and never mix."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, JpegImagePlugin

from pixcon_mm.datasets.loading import decode_whole
from pixcon_mm.tools import reencode_images as tool
from pixcon_mm.tools.reencode_images import encode_jpeg, reencode
from tests.commands import run as run_command
from tests.test_datasets.pictures import (
    broken_files,
    encode,
    picture,
    write_pictures,
)


@pytest.fixture
def src(tmp_path):
    return write_pictures(tmp_path / 'src', 3)


@pytest.fixture
def dst(tmp_path):
    return tmp_path / 'dst'


@pytest.fixture
def run(call):
    """Run the tool here; returns its output, or its error's sentence."""

    def _run(*words):
        status, shown, error = call(tool.main, *words, '--workers', '1')
        assert not status or error.startswith('error: ')
        return error if status else shown

    return _run


def tree(folder):
    paths = folder.rglob('*')
    return {p.relative_to(folder).as_posix() for p in paths if p.is_file()}


def record(dst):
    return json.loads((dst / 'reencode.json').read_text())


def test_tree_and_sizes(run, src, dst):
    write_pictures(src / 'b/c', 1, width=120, height=200)
    write_pictures(src / 'd', 1, width=20, height=30)
    (src / 'notes.txt').write_text('no image')
    originals = tree(src)
    shown = run(src, dst, '--short-side', '40')
    sizes = {
        '000.png.jpg': (53, 40),
        '001.png.jpg': (53, 40),
        '002.png.jpg': (53, 40),
        'b/c/000.png.jpg': (40, 67),
        'd/000.png.jpg': (20, 30),
    }
    assert tree(dst) == {*sizes, 'reencode.json'}
    for name, size in sizes.items():
        with Image.open(dst / name) as image:
            assert (image.format, image.size) == ('JPEG', size)
    assert tree(src) == originals
    done = record(dst)
    assert (done['images'], done['broken']) == (5, {})
    assert done['bytes_before'] == sum(
        (src / name).stat().st_size for name in originals - {'notes.txt'}
    )
    assert done['bytes_after'] == sum(
        (dst / name).stat().st_size for name in sizes
    )
    assert f'--cfg-options data_root={dst}' in shown
    assert '5 of them new' in shown


def test_kinds_look_as_pretraining_saw_them(run, dst, tmp_path):
    rgb = picture(3)
    deep = np.asarray(rgb.convert('L')).astype(np.uint16) * 256
    contents = {
        'cmyk.jpg': encode(rgb.convert('CMYK'), 'JPEG', quality=95),
        'grey.jpg': encode(rgb.convert('L'), 'JPEG', quality=100),
        'palette.png': encode(rgb.quantize(32)),
        'alpha.png': encode(rgb.convert('RGBA')),
        'clear.webp': encode(rgb.convert('RGBA'), 'WEBP'),
        'deep.png': encode(Image.fromarray(deep)),
        'plain.bmp': encode(rgb, 'BMP'),
    }
    (tmp_path / 'src').mkdir()
    for name, content in contents.items():
        (tmp_path / 'src' / name).write_bytes(content)
    run(tmp_path / 'src', dst, '--quality', '97')
    assert record(dst)['images'] == len(contents)
    for name, content in contents.items():
        copy = (dst / tool.copy_name(name)).read_bytes()
        # Dithering loses its colours to the chroma's half resolution.
        blocks = [
            np.asarray(Image.fromarray(decode_whole(c)).reduce(8)).astype(int)
            for c in (copy, content)
        ]
        assert np.abs(blocks[0] - blocks[1]).max() < 8, name


def test_second_run_does_what_is_missing(run, src, dst):
    run(src, dst)
    copies = [dst / f'{i:03d}.png.jpg' for i in range(3)]
    times = [copy.stat().st_ctime_ns for copy in copies]
    before = copies[1].read_bytes()
    (dst / '001.png.jpg').unlink()
    (src / '000.jpg').write_bytes(encode(picture(7), 'JPEG'))
    assert '2 of them new' in run(src, dst)
    found = [copy.stat().st_ctime_ns for copy in copies]
    assert [a == b for a, b in zip(times, found, strict=True)] == [1, 0, 1]
    assert copies[1].read_bytes() == before
    assert (dst / '000.jpg').exists()
    assert record(dst)['images'] == 4
    assert '0 of them new' in run(src, dst)


@pytest.mark.parametrize('seconds', [-1000, 1000])
def test_copies_follow_their_images(run, src, dst, seconds):
    """Images that were replaced, broken or removed after the first run."""
    time = (src / '000.png').stat().st_mtime
    run(src, dst)
    before = {path.name: path.read_bytes() for path in dst.glob('*.jpg')}
    other = src / 'other'
    write_pictures(other, 1, width=80, height=60)
    (other / '000.png').replace(src / '000.png')
    other.rmdir()
    (src / '001.png').write_bytes(b'broken')
    for name in ('000.png', '001.png'):  # by whatever time it has
        os.utime(src / name, (time + seconds,) * 2)
    (src / '002.png').unlink()
    shown = run(src, dst)
    assert 'images    1 in' in shown
    assert "broken    '001.png' (all in" in shown
    assert "others    '002.png.jpg' (all in" in shown
    assert 'SRC has no such images: remove them from DST' in shown
    names = {'000.png.jpg', '002.png.jpg', 'reencode.json'}
    assert {path.name for path in dst.iterdir()} == names
    assert (dst / '000.png.jpg').read_bytes() != before['000.png.jpg']
    (src / '000.png').chmod(0o600)  # changes nothing
    assert ', 0 of them new' in run(src, dst)


@pytest.mark.parametrize(
    ('first', 'second', 'words'),
    [
        ([], ['--quality', '80'], '--quality 90 (now 80)'),
        ([], ['--short-side', '32'], '--short-side left out (now 32)'),
        (['--short-side', '32'], [], '--short-side 32 (now left out)'),
    ],
)
def test_other_settings_are_refused(run, src, dst, first, second, words):
    run(src, dst, *first)
    before = (dst / 'reencode.json').read_bytes()
    error = run(src, dst, *second)
    assert words in error
    assert error.count('\n') == 1
    other = write_pictures(src.with_name('other'), 4)
    assert str(other) in run(other, dst, *first)
    assert (dst / 'reencode.json').read_bytes() == before
    assert '003.png.jpg' not in tree(dst)


def test_broken_images_are_named(run, src, dst):
    (src / 'odd').mkdir()
    for name, content in broken_files().items():
        (src / 'odd' / name).write_bytes(content)
    shown = run(src, dst)
    done = record(dst)
    assert set(done['broken']) == {f'odd/{name}' for name in broken_files()}
    assert done['broken']['odd/empty.jpg'] == 'the file is empty'
    assert done['images'] == 3
    assert f'{len(broken_files())} broken' in shown
    copies = {f'{i:03d}.png.jpg' for i in range(3)}
    assert tree(dst) == {*copies, 'reencode.json'}


def test_src_without_images(run, tmp_path, dst):
    """The advice for a training, an option of its config, is left out."""
    error = run(tmp_path / 'gone', dst)
    assert error.endswith("gone' does not exist.\n")
    (tmp_path / 'texts').mkdir()
    (tmp_path / 'texts/a.txt').touch()
    assert run(tmp_path / 'texts', dst).endswith('They hold 1 .txt.\n')


def test_all_broken(run, tmp_path, dst):
    folder = tmp_path / 'src'
    folder.mkdir()
    (folder / 'a.jpg').write_bytes(b'')
    (folder / 'b.jpg').write_bytes(b'\xff\xd8')
    error = run(folder, dst)
    assert 'None of the 2 images in' in error
    assert "'a.jpg': the file is empty" in error
    assert set(record(dst)['broken']) == {'a.jpg', 'b.jpg'}


@pytest.mark.parametrize('place', ['src', 'src/small', 'src/.small', 'link/x'])
def test_dst_in_src_is_refused(run, src, tmp_path, place):
    (tmp_path / 'elsewhere').mkdir()
    (src / 'linked').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'link').symlink_to(tmp_path / 'elsewhere')
    before = tree(tmp_path)
    assert 'would mix' in run(src, tmp_path / place)
    assert tree(tmp_path) == before


def test_dst_that_is_something_else(run, src, dst):
    dst.mkdir()
    (dst / '000.jpg').write_bytes(b'of another tool')
    assert 'choose a new folder' in run(src, dst)
    (dst / 'reencode.json').write_text('[]')
    assert 'was not written by this tool' in run(src, dst)
    assert (dst / '000.jpg').read_bytes() == b'of another tool'
    assert 'is a file' in run(src, dst / '000.jpg')
    with pytest.raises(SystemExit):
        tool.parse_args([str(src), str(dst), '--quality=101'])


def test_copies_of_one_name_are_refused(run, src, dst):
    (src / '001.png.jpg').write_bytes(encode(picture(3), 'JPEG'))
    assert 'has 001.png and 001.png.jpg, whose' in run(src, dst)
    assert not dst.exists()


def test_a_full_disk_ends_the_run_and_the_next_one_continues(
    run, src, dst, monkeypatch
):
    replace = os.replace

    def full(part, path):
        if Path(path).name == '001.png.jpg':
            raise OSError(28, 'No space left on device')
        replace(part, path)

    with monkeypatch.context() as patch:
        patch.setattr(os, 'replace', full)
        error = run(src, dst)
    assert '001.png.jpg cannot be written (No space left on device)' in error
    assert '--out' not in error
    assert tree(dst) == {'000.png.jpg', 'reencode.json'}
    assert '2 of them new' in run(src, dst)
    assert record(dst)['images'] == 3


@pytest.mark.slow
def test_processes_write_the_same(run, src, dst, tmp_path):
    (src / 'broken.jpg').write_bytes(b'')
    run(src, dst)
    other = tmp_path / 'other'
    result = run_command(
        *('tools/reencode_images.py', src, other, '--workers', '2')
    )
    assert result.returncode == 0, result.stderr
    assert tree(other) == tree(dst)
    for name in tree(dst):
        assert (other / name).read_bytes() == (dst / name).read_bytes()


def test_a_copy_is_subsampled_and_not_progressive():
    content = encode_jpeg(np.asarray(picture(3, 150, 101)), 90, None)
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
