"""Storage that is away is waited for; a file that is away is not."""

import errno
import os
import socket
from itertools import chain, repeat
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from pixcon_mm.datasets import storage
from pixcon_mm.datasets.storage import is_away, patiently, read_file
from tests.commands import sentence_of, touch

LIMIT = 10**6


@pytest.fixture
def pauses(monkeypatch):
    """Pauses that take no time, and a clock that believes in them."""
    slept = []
    # For this module alone: threads of other tests may sleep meanwhile.
    clock = SimpleNamespace(sleep=slept.append, monotonic=lambda: sum(slept))
    monkeypatch.setattr(storage, 'time', clock)
    return slept


def failing(number, times):
    """An action that raises an error so many times."""
    error = OSError(number, os.strerror(number), 'path')
    return Mock(side_effect=chain(repeat(error, times), [b'content']))


@pytest.mark.parametrize(
    'name',
    [
        *('EIO', 'ESTALE', 'EMFILE', 'ENFILE', 'ENOMEM', 'ENETDOWN'),
        *('ETIMEDOUT', 'EAGAIN', 'ENOTCONN', 'EHOSTDOWN', 'EREMOTEIO'),
    ],
)
def test_storage_that_comes_back(pauses, capfd, name, tmp_path):
    path = str(tmp_path / 'a\nb.jpg')
    action = failing(getattr(errno, name), times=9)
    assert patiently(action, path) == b'content'
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    first, last = capfd.readouterr().err.splitlines()
    assert os.strerror(getattr(errno, name)) in first
    assert first.startswith('warning: "')
    assert first.endswith('waiting up to 300 s.')
    assert last.endswith('b.jpg" was read after 122 s.')


@pytest.mark.parametrize('patience', [0, 10, 300])
@pytest.mark.parametrize(
    ('number', 'words'),
    [
        (errno.EIO, 'storage of /disk/images is mounted'),
        (errno.EMFILE, 'raise the limit (`ulimit -n 65536`)'),
    ],
)
def test_storage_that_stays_away(pauses, capfd, patience, number, words):
    action = failing(number, times=10**6)
    path = '/disk/images/1.jpg'
    message = sentence_of(patiently, action, path, patience)
    assert sum(pauses) <= patience < sum(pauses) + storage.LONGEST_PAUSE
    assert message.startswith(f'{path} could not be read for ')
    assert os.strerror(number) in message
    assert words in message
    assert message.endswith('--resume).')
    assert len(capfd.readouterr().err.splitlines()) == (patience > 0)


def missing(path):
    with pytest.raises(OSError, match='.') as caught:
        os.stat(path)
    return caught.value


def test_one_missing_file_is_not_an_outage(tmp_path):
    touch(tmp_path, 'store/2.jpg')
    (tmp_path / 'link.jpg').symlink_to('store/1.jpg')
    (tmp_path / 'circle.jpg').symlink_to('circle.jpg')
    for name in ('store/1.jpg', 'link.jpg', 'circle.jpg'):
        path = tmp_path / name
        assert not is_away(str(path), missing(path))
        with pytest.raises(OSError, match=path.name):
            read_file(str(path), LIMIT)


@pytest.mark.parametrize(
    'name',
    [
        'gone/1.jpg',
        'mounted/1.jpg',  # the place of a mount is empty
        'mounted/deep/1.jpg',
        'links/1.jpg',
        'links/to/1.jpg',
        'links/file/1.jpg',  # a folder became a file
    ],
)
def test_a_missing_folder_is_an_outage(tmp_path, name):
    (tmp_path / 'mounted').mkdir()
    touch(tmp_path, 'links/file')
    (tmp_path / 'links/1.jpg').symlink_to(tmp_path / 'mounted/deep/1.jpg')
    (tmp_path / 'links/to').symlink_to(tmp_path / 'mounted/deep')
    assert is_away(str(tmp_path / name), missing(tmp_path / name))


@pytest.mark.parametrize('through_link', [False, True])
@pytest.mark.parametrize('kind', ['fifo', 'zero', 'folder', 'socket'])
def test_a_path_that_is_not_a_file_is_refused_at_once(
    tmp_path, monkeypatch, pauses, kind, through_link
):
    monkeypatch.chdir(tmp_path)  # addresses of sockets are short
    path = '/dev/zero' if kind == 'zero' else 'thing.jpg'
    if kind == 'fifo':
        os.mkfifo(path)
    elif kind == 'folder':
        os.mkdir(path)
    elif kind == 'socket':
        server = socket.socket(socket.AF_UNIX)
        server.bind(path)
        server.close()
    if through_link:
        os.symlink(path, 'link.jpg')
        path = 'link.jpg'
    with pytest.raises((ValueError, OSError), match='regular|directory|No su'):
        read_file(path, LIMIT)
    assert not pauses


def test_large_files_are_not_read(tmp_path):
    path = tmp_path / 'sparse.jpg'
    path.touch()
    os.truncate(path, 10**11)
    with pytest.raises(ValueError, match='100000 MB, more than 1$'):
        read_file(str(path), LIMIT)
    os.truncate(path, LIMIT)
    assert read_file(str(path), LIMIT) == bytes(LIMIT)
