"""Files that are listed, and the line about the rest."""

import errno
import os
import socket

import mmcv
import pytest
from PIL import Image

from pixcon_mm.datasets import listing, storage
from pixcon_mm.datasets.decoding import decode_whole
from pixcon_mm.datasets.image_header import ORIENTATION, image_size
from pixcon_mm.datasets.listing import (
    images_by_stem,
    list_images,
    missing_files,
    readable_suffixes,
)
from pixcon_mm.errors import UserError
from tests.commands import touch
from tests.test_datasets.pictures import encode, picture


def names(folder, suffixes=('.jpg', '.png')):
    paths = list_images(str(folder), suffixes, set())
    return [os.path.relpath(path, folder) for path in paths]


def test_only_files_are_listed(tmp_path, monkeypatch, log):
    monkeypatch.chdir(tmp_path)  # addresses of sockets are short
    touch(tmp_path, 'real.jpg', 'deep/real.jpg')
    os.mkfifo('fifo.jpg')
    server = socket.socket(socket.AF_UNIX)
    server.bind('socket.jpg')
    server.close()
    for link, target in {
        'good.jpg': 'real.jpg',
        'fifo_link.jpg': 'fifo.jpg',
        'socket_link.jpg': 'socket.jpg',
        'zero.jpg': '/dev/zero',
        'gone.jpg': 'nowhere.jpg',
        'circle.jpg': 'circle.jpg',
    }.items():
        os.symlink(target, link)
    assert names(tmp_path) == ['deep/real.jpg', 'good.jpg', 'real.jpg']
    (line,) = (record.getMessage() for record in log)
    assert line == (
        f'3 images in {tmp_path}; left out: 5 FIFO, device or socket, '
        '2 link to nowhere.'
    )


def test_suffixes_that_are_left_out_are_counted(tmp_path, log):
    touch(tmp_path, '1.jpg', '2.HEIC', 'a/3.heic', 'notes', 'a/.hidden.txt')
    touch(tmp_path, 'b.e\x1b[31m')
    assert names(tmp_path) == ['1.jpg']
    (line,) = (record.getMessage() for record in log)
    start = f'1 images in {tmp_path}; left out: 2 .heic, '
    assert line.startswith(start)
    rest = line.removeprefix(start).rstrip('.').split(', ')
    assert sorted(rest) == ['1 ".e\\u001b[31m"', '1 without suffix']
    touch(tmp_path, *(f'x.{i:03}' for i in range(30)))
    names(tmp_path)
    second = log[1].getMessage()
    assert second.endswith('of other kinds.')
    assert len(second) < len(line) + 120


def test_an_empty_folder_says_what_it_holds(tmp_path):
    touch(tmp_path, '0.heic', '1.heic', '2.heic')
    with pytest.raises(UserError, match='They hold 3 .heic.'):
        names(tmp_path)


def test_every_listed_suffix_can_be_decoded():
    pillows = Image.registered_extensions()
    assert {
        *('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp', '.webp', '.gif'),
        *('.tif', '.tiff', '.ppm', '.pgm', '.jp2'),
        *(() if listing.cv2.__version__ == '4.11.0' else ('.avif',)),
    } <= set(readable_suffixes())
    for suffix in readable_suffixes():
        kind = pillows[suffix]
        content = encode(picture(1), kind)
        assert decode_whole(content).shape == (48, 64, 3), suffix


def test_a_build_without_a_decoder_lists_less(monkeypatch):
    monkeypatch.setattr(
        listing.features, 'check', lambda module: module != 'jpg_2000'
    )
    monkeypatch.setattr(
        listing.cv2, 'getBuildInformation', lambda: '  AVIF:      NO\n'
    )
    suffixes = readable_suffixes.__wrapped__()
    assert '.webp' in suffixes
    assert not {'.jp2', '.avif'} & set(suffixes)


def test_missing_files_keep_their_spelling(tmp_path, monkeypatch):
    monkeypatch.chdir(touch(tmp_path, 'a/1.jpg', '2.jpg'))
    there = ['a/1.jpg', 'a//1.jpg', './a/1.jpg', '2.jpg', f'{tmp_path}/2.jpg']
    missing = ['a/2.jpg', 'a//2.jpg', 'b/1.jpg', '1.jpg', f'{tmp_path}//1.jpg']
    os.symlink('nowhere.jpg', '3.jpg')
    os.symlink('4.jpg', '4.jpg')
    missing += ['3.jpg', '4.jpg']
    assert missing_files([*there, *missing]) == {*missing}


def fail_on(monkeypatch, folder, number, times):
    """Let a folder fail to open so many times."""
    scandir, failures = os.scandir, iter(range(times))

    def failing(place):
        if place == str(folder) and next(failures, None) is not None:
            raise OSError(number, os.strerror(number), place)
        return scandir(place)

    monkeypatch.setattr(listing.os, 'scandir', failing)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    touch(tmp_path, 'a/1.jpg', 'b/2.jpg')
    monkeypatch.setattr(storage.time, 'sleep', lambda seconds: None)
    return tmp_path


def test_a_folder_that_is_away_is_waited_for(tree, monkeypatch):
    """Half a data set would be a silent mistake."""
    fail_on(monkeypatch, tree / 'b', errno.ESTALE, times=3)
    assert names(tree) == ['a/1.jpg', 'b/2.jpg']
    fail_on(monkeypatch, tree / 'b', errno.EIO, times=10**9)
    clock = iter(range(10**6))
    monkeypatch.setattr(storage.time, 'monotonic', lambda: next(clock))
    with pytest.raises(UserError, match='b could not be read for'):
        names(tree)


def test_a_forbidden_folder_is_left_out(tree, monkeypatch, log):
    """Not from labelled images: it may have a mask's."""
    fail_on(monkeypatch, tree / 'b', errno.EACCES, times=10**9)
    assert names(tree) == ['a/1.jpg']
    (line,) = (record.getMessage() for record in log)
    assert line == (
        f'Folder {tree}/b cannot be opened (Permission denied) and is left '
        'out.'
    )
    with pytest.raises(UserError, match='b cannot be read .Permission denied'):
        images_by_stem(str(tree))


@pytest.mark.parametrize('suffix', ['jpg', 'png', 'webp', 'tif', 'avif'])
@pytest.mark.parametrize('orientation', [1, 3, 6])
def test_size_is_that_of_the_image_that_opencv_decodes(
    tmp_path, suffix, orientation
):
    if f'.{suffix}' not in readable_suffixes():  # AVIF, with OpenCV 4.11
        pytest.skip('it cannot be decoded here')
    path, exif = tmp_path / f'a.{suffix}', Image.Exif()
    exif[ORIENTATION] = orientation
    Image.new('RGB', (20, 10)).save(path, exif=exif)
    assert Image.open(path).getexif().get(ORIENTATION, 1) == orientation
    decoded = mmcv.imfrombytes(path.read_bytes(), backend='cv2')
    assert image_size(str(path)) == decoded.shape[1::-1]
