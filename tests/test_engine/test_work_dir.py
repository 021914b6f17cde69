"""A folder belongs to one run at a time, and nothing is lost in it."""

import os
import signal
import subprocess
import sys

import pytest

from pixcon_mm.engine.work_dir import claim, clear
from tests import ROOT
from tests.commands import sentence_of

# Claims a folder, forks a child, says so, and waits.
OWNER = """
import os, sys, time
from pathlib import Path
from pixcon_mm.engine.work_dir import claim
lock = claim(Path(sys.argv[1]), True, False)
child = os.fork()
if child:
    print(child, flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_one_process_at_a_time(tmp_path):
    folder = tmp_path / 'run'
    process = subprocess.Popen(
        [sys.executable, '-c', OWNER, folder],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    child = int(process.stdout.readline())
    try:
        checkpoint = folder / 'epoch_1.pth'
        checkpoint.write_bytes(b'checkpoint')
        # Nor may a refusal free the owner's lock for those that come later.
        for resumes, overwrite in (
            (True, False),
            (False, False),
            (False, True),
            (True, False),
        ):
            text = sentence_of(claim, folder, resumes, overwrite)
            owned = f'is in use by another run (process {process.pid} on'
            assert f'{folder} {owned}' in text
            assert '--work-dir' in text
            assert checkpoint.exists()
        # The lock dies with its owner, not with a worker that it forked.
        process.kill()
        process.wait()
        os.kill(child, 0)  # still there
        lock = claim(folder, True, False)
        assert str(os.getpid()) in (folder / '.lock').read_text()
        assert str(process.pid) not in (folder / '.lock').read_text()
        lock.close()
    finally:
        process.kill()
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize('name', ['epoch_3.pth', 'iter_12.pth'])
def test_existing_checkpoints_refuse_a_new_run(tmp_path, name):
    (tmp_path / name).write_bytes(b'')
    text = sentence_of(claim, tmp_path, False, False)
    assert str(tmp_path) in text
    assert name in text
    for option in ('--resume', '--overwrite', '--work-dir'):
        assert option in text
    assert claim(tmp_path, True, False)
    assert (tmp_path / name).exists()


def test_overwrite_moves_aside(tmp_path):
    names = ['epoch_3.pth', 'best_score_epoch_2.pth', 'iter_4.pth']
    for turn in (1, 2):
        for name in names:
            (tmp_path / name).write_text(f'{name} {turn}')
        (tmp_path / '20260101_120000').mkdir()
        (tmp_path / '20260101_120000/run.log').write_text('log')
        (tmp_path / 'images').mkdir(exist_ok=True)
        (tmp_path / '20260102_120000').mkdir(exist_ok=True)
        claim(tmp_path, False, True).close()
        assert (tmp_path / 'epoch_3.pth').exists()
        aside = clear(tmp_path, tmp_path / '20260102_120000', discard=False)
        assert aside == tmp_path / f'old-{turn}'
        moved = {p.name: p for p in aside.iterdir()}
        assert set(moved) == {*names, '20260101_120000'}
        for name in names:
            assert moved[name].read_text() == f'{name} {turn}'
        assert (aside / '20260101_120000/run.log').read_text() == 'log'
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {'old-1', 'old-2', 'images', '20260102_120000', '.lock'}
    assert clear(tmp_path, tmp_path / '20260102_120000', False) is None


def test_a_trial_is_deleted(tmp_path):
    (tmp_path / 'iter_4.pth').write_bytes(b'of an earlier trial')
    (tmp_path / '20260101_120000/vis_data').mkdir(parents=True)
    (tmp_path / 'images').mkdir()
    assert clear(tmp_path, tmp_path / '20260102_120000', True) is None
    assert {p.name for p in tmp_path.iterdir()} == {'images'}


def test_a_new_folder_and_what_a_killed_write_has_left(tmp_path):
    folder = tmp_path / 'a/b'
    claim(folder, False, True).close()
    (folder / '.epoch_1.pth.77.part').write_bytes(b'half')
    claim(folder, True, False).close()
    assert [p.name for p in folder.iterdir()] == ['.lock']


@pytest.mark.parametrize('name', ['file', 'file/a/b'])
def test_an_impossible_folder_gives_a_sentence(tmp_path, name):
    (tmp_path / 'file').write_bytes(b'mine')
    text = sentence_of(claim, tmp_path / name, False, False)
    assert f'Work directory {tmp_path / name} cannot be written (' in text
    assert '--work-dir' in text
    assert (tmp_path / 'file').read_bytes() == b'mine'


def test_a_file_system_without_locks_is_not_an_error(tmp_path, monkeypatch):
    def lockf(*args):
        raise OSError(37, 'No locks available')

    monkeypatch.setattr('fcntl.lockf', lockf)
    assert claim(tmp_path, False, False)
