"""Runs resume from their own folder, whatever else is there."""

import os
import shutil
from functools import partial

import pytest

from tests.faults import recipes
from tests.faults.cases import Case
from tests.faults.resumption import KEPT, RECIPE, broken_off, first, resumed

pytestmark = pytest.mark.faults


def pointer(content, lab, folder):
    """The content of last_checkpoint does not matter."""
    work_dir, _ = broken_off(lab, folder)
    path = work_dir / 'last_checkpoint'
    path.unlink()
    if content is not None:
        if callable(content):
            content = content(lab, folder)
        path.write_bytes(content)
    launch, status = resumed(lab, work_dir)
    assert status == 0, f'exit {status}: {launch.tail()}'
    assert first(launch) == 10 * KEPT, f'began after {first(launch)}'
    return 1, f'newest used, {lab.finished(RECIPE, work_dir)}'


def elsewhere(lab, folder) -> bytes:
    """A checkpoint of another run."""
    other = folder / 'other'
    other.mkdir()
    source = lab.unbroken(RECIPE).work_dir / 'epoch_2.pth'
    shutil.copy(source, other / 'epoch_2.pth')
    return str(other / 'epoch_2.pth').encode()


def moved(lab, folder):
    """A run continues wherever its folder is."""
    work_dir, _ = broken_off(lab, folder)
    there = folder / 'some where' / 'else'
    there.parent.mkdir()
    work_dir.rename(there)
    launch, status = resumed(lab, there)
    assert status == 0, f'exit {status}: {launch.tail()}'
    assert first(launch) == 10 * KEPT
    assert not work_dir.exists(), 'the old place is there again'
    return 1, lab.finished(RECIPE, there)


def copied(lab, folder):
    """A copy continues by itself; the original stays as it was."""
    work_dir, newest = broken_off(lab, folder)
    copy = folder / 'copy'
    shutil.copytree(work_dir, copy)
    # The original is behind: a copy must not look there.
    newest.unlink()
    before = sorted(work_dir.rglob('*'))
    launch, status = resumed(lab, copy)
    assert status == 0, f'exit {status}: {launch.tail()}'
    assert first(launch) == 10 * KEPT
    assert sorted(work_dir.rglob('*')) == before, 'the original changed'
    return 1, lab.finished(RECIPE, copy)


def touched(lab, folder):
    """Age is what the name says, not what the file system does."""
    work_dir, newest = broken_off(lab, folder)
    os.utime(newest, (0, 0))
    launch, status = resumed(lab, work_dir)
    assert status == 0, f'exit {status}: {launch.tail()}'
    assert first(launch) == 10 * KEPT
    return 1, f'newest used, {lab.finished(RECIPE, work_dir)}'


def by_number(lab, folder):
    """Iteration 63 comes after 7."""
    recipe = recipes.MID_EPOCH
    work_dir, newest = broken_off(lab, folder, recipe)
    launch, status = resumed(lab, work_dir, recipe=recipe)
    assert status == 0, f'exit {status}: {launch.tail()}'
    assert newest.name == f'iter_{first(launch)}.pth'
    return 1, f'newest used, {lab.finished(recipe, work_dir)}'


def nothing_there(lab, folder):
    """Without any checkpoint, --resume starts and says so."""
    launch, status = resumed(lab, folder / 'run')
    assert status == 0, f'exit {status}: {launch.tail()}'
    assert first(launch) == 0
    assert 'WARNING' in launch.output().upper()
    return 1, f'fresh start, {lab.finished(RECIPE, folder / "run")}'


def not_asked_to_resume(lab, folder):
    """Checkpoints are not overwritten unless that is asked for."""
    work_dir, _ = broken_off(lab, folder)
    before = {path: path.read_bytes() for path in work_dir.glob('*.pth')}
    said = lab.launch(RECIPE, work_dir).refusal('--overwrite', '--resume')
    after = {path: path.read_bytes() for path in work_dir.glob('*.pth')}
    assert after == before, 'checkpoints changed'
    launch = lab.launch(RECIPE, work_dir, '--overwrite')
    assert launch.end() == 0, launch.tail()
    assert first(launch) == 0
    return 2, f'{said} --overwrite: {lab.finished(RECIPE, work_dir)}'


def left_over(lab, folder):
    """Files that a killed run was writing are cleared away."""
    work_dir, newest = broken_off(lab, folder)
    part = work_dir / f'.{newest.name}.part'
    part.write_bytes(newest.read_bytes()[:1000])
    launch, status = resumed(lab, work_dir)
    assert status == 0, f'exit {status}: {launch.tail()}'
    assert first(launch) == 10 * KEPT
    assert not part.exists()
    return 1, f'removed, {lab.finished(RECIPE, work_dir)}'


POINTERS = {
    'missing': None,
    'empty': b'',
    'garbage': bytes(range(256)),
    'a URL': b'http://127.0.0.1:9/epoch_6.pth',
    'a file that is gone': b'/nowhere/epoch_6.pth',
    'another run': elsewhere,
}
CASES = [
    *(
        Case(
            f'last_checkpoint: {name}', RECIPE.name, partial(pointer, content)
        )
        for name, content in POINTERS.items()
    ),
    *(
        Case(name, recipe.name, check, times)
        for name, recipe, check, times in (
            ('folder moved', RECIPE, moved, 1),
            ('folder copied', RECIPE, copied, 1),
            ('newest checkpoint has the oldest date', RECIPE, touched, 1),
            ('numbers of one and two digits', recipes.MID_EPOCH, by_number, 1),
            ('--resume in an empty folder', RECIPE, nothing_there, 1),
            ('checkpoints without --resume', RECIPE, not_asked_to_resume, 2),
            ('left-over .part file', RECIPE, left_over, 1),
        )
    ),
]


@pytest.mark.parametrize('case', CASES, ids=str)
def test_resumes_where_it_was(case, run_case):
    run_case(case)
