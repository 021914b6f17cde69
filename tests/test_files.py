"""A file is there as a whole, or as it was before."""

import errno
import os
import signal
from pathlib import Path
from unittest.mock import Mock

import pytest

from pixcon_mm.errors import UserError
from pixcon_mm.files import check_out, remove_parts, whole_file


@pytest.fixture
def path(tmp_path):
    path = tmp_path / 'file.bin'
    path.write_bytes(b'old')
    return path


def content(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_the_name_is_the_new_file_only_at_the_end(path):
    with whole_file(path) as file:
        file.write(b'new')
        file.flush()
        assert path.read_bytes() == b'old'
    assert content(path.parent) == {'file.bin': b'new'}


@pytest.mark.parametrize('place', ['write', 'fsync', 'replace'])
@pytest.mark.parametrize(
    'error', [OSError(errno.ENOSPC, 'full'), KeyboardInterrupt()]
)
def test_an_exception_leaves_the_old_file(path, monkeypatch, place, error):
    fail = Mock(side_effect=error)
    if place != 'write':
        monkeypatch.setattr(os, place, fail)

    def write():
        with whole_file(path) as file:
            file.write(b'new')
            if place == 'write':
                fail()

    with pytest.raises(type(error)):
        write()
    assert content(path.parent) == {'file.bin': b'old'}


def test_bytes_reach_the_disk_before_the_name(path, monkeypatch):
    """A power cut must not leave the name of an empty file."""
    calls = []
    for name in ('fsync', 'replace'):
        real = getattr(os, name)

        def spy(*args, name=name, real=real):
            calls.append(name)
            return real(*args)

        monkeypatch.setattr(os, name, spy)
    with whole_file(path) as file:
        file.write(b'new')
    # The last one is of the folder.
    assert calls == ['fsync', 'replace', 'fsync']


def test_a_folder_that_cannot_be_synced_is_not_an_error(path, monkeypatch):
    """Some network file systems refuse it."""
    real, calls = os.fsync, []

    def fsync(number):
        calls.append(number)
        if len(calls) == 2:
            raise OSError(errno.EINVAL, 'Invalid argument')
        real(number)

    monkeypatch.setattr(os, 'fsync', fsync)
    with whole_file(path) as file:
        file.write(b'new')
    assert len(calls) == 2
    assert content(path.parent) == {'file.bin': b'new'}


def test_a_kill_leaves_the_old_file_and_a_part_that_is_removed_later(path):
    if (child := os.fork()) == 0:
        with whole_file(path) as file:
            file.write(b'n' * 100_000)
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    names = sorted(content(path.parent))
    assert path.read_bytes() == b'old'
    assert len(names) == 2
    assert names[0].startswith('.file.bin.')
    assert names[0].endswith('.part')
    (path.parent / 'a.part').write_bytes(b'of the user')
    (path.parent / '.hidden').write_bytes(b'of the user')
    remove_parts(path.parent)
    assert sorted(content(path.parent)) == ['.hidden', 'a.part', 'file.bin']


def test_a_folder_that_cannot_be_written_is_found_at_the_start(path):
    check_out(path)
    assert content(path.parent) == {'file.bin': b'old'}
    # A folder without room for files, even those of root.
    with pytest.raises(UserError, match=r'^/proc cannot be written \('):
        check_out(Path('/proc/metrics.json'))
