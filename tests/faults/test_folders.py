"""Runs resume from their own folder, whatever else is there."""

import os
import shutil
from functools import partial

import pytest

from tests.faults import recipes
from tests.faults.cases import Case
from tests.faults.stories import KEPT, RECIPE, broken_off, resumed

pytestmark = pytest.mark.faults
AT = KEPT * RECIPE.length  # iteration of the newest checkpoint


def pointer(content, lab, folder):
    """Check that the content of last_checkpoint does not matter."""
    work_dir, _ = broken_off(lab, folder)
    path = work_dir / 'last_checkpoint'
    path.unlink()
    if callable(content):
        content = content(lab, folder)
    if content is not None:
        path.write_bytes(content)
    return 1, f'newest used, {resumed(lab, work_dir, AT)[1]}'


def elsewhere(lab, folder) -> bytes:
    """Name a checkpoint of another run."""
    other = folder / 'other'
    other.mkdir()
    source = lab.unbroken(RECIPE).work_dir / 'epoch_2.pth'
    shutil.copy(source, other / 'epoch_2.pth')
    return str(other / 'epoch_2.pth').encode()


def moved(lab, folder):
    """Check that a run continues wherever its folder is."""
    work_dir, _ = broken_off(lab, folder)
    new_place = folder / 'some where' / 'else'
    new_place.parent.mkdir()
    work_dir.rename(new_place)
    _, outcome = resumed(lab, new_place, AT)
    assert not work_dir.exists(), 'the old place exists again'
    return 1, outcome


def copied(lab, folder):
    """Check that a copy continues by itself, without the original."""
    work_dir, newest = broken_off(lab, folder)
    copy = folder / 'copy'
    shutil.copytree(work_dir, copy)
    # The original is behind: a copy must not look there.
    newest.unlink()
    before = sorted(work_dir.rglob('*'))
    _, outcome = resumed(lab, copy, AT)
    assert sorted(work_dir.rglob('*')) == before, 'the original changed'
    return 1, outcome


def touched(lab, folder):
    """Check that the dates of files do not matter."""
    work_dir, newest = broken_off(lab, folder)
    os.utime(newest, (0, 0))
    return 1, f'newest used, {resumed(lab, work_dir, AT)[1]}'


def by_number(lab, folder):
    """Check that iteration 63 comes after 7."""
    recipe = recipes.MID_EPOCH
    work_dir, newest = broken_off(lab, folder, recipe)
    at = int(newest.stem.removeprefix('iter_'))
    return 1, f'newest used, {resumed(lab, work_dir, at, recipe)[1]}'


def nothing_there(lab, folder):
    """Check that without any checkpoint --resume starts and says so."""
    launch, outcome = resumed(lab, folder / 'run', 0)
    assert 'WARNING' in launch.output().upper()
    return 1, f'fresh start, {outcome}'


def not_asked_to_resume(lab, folder):
    """Check that only --overwrite replaces checkpoints."""
    work_dir, _ = broken_off(lab, folder)
    before = {path: path.read_bytes() for path in work_dir.glob('*.pth')}
    message = lab.launch(RECIPE, work_dir).refusal('--overwrite', '--resume')
    after = {path: path.read_bytes() for path in work_dir.glob('*.pth')}
    assert after == before, 'checkpoints changed'
    launch = lab.launch(RECIPE, work_dir, '--overwrite')
    assert launch.end() == 0, launch.tail()
    assert launch.positions()[0] == 1
    return 2, f'{message} --overwrite: {lab.finished(RECIPE, work_dir)}'


def left_over(lab, folder):
    """Check that files of a killed run are cleared away."""
    work_dir, newest = broken_off(lab, folder)
    part = work_dir / f'.{newest.name}.part'
    part.write_bytes(newest.read_bytes()[:1000])
    _, outcome = resumed(lab, work_dir, AT)
    assert not part.exists()
    return 1, f'removed, {outcome}'


POINTERS = {
    'missing': None,
    'empty': b'',
    'garbage': bytes(range(256)),
    'a URL': b'http://127.0.0.1:9/epoch_6.pth',
    'a file that is gone': b'/nowhere/epoch_6.pth',
    'another run': elsewhere,
}
CHECKS = (
    *(
        (f'last_checkpoint: {name}', partial(pointer, content), 1)
        for name, content in POINTERS.items()
    ),
    ('folder moved', moved, 1),
    ('folder copied', copied, 1),
    ('newest checkpoint has the oldest date', touched, 1),
    ('--resume in an empty folder', nothing_there, 1),
    ('checkpoints without --resume', not_asked_to_resume, 2),
    ('left-over .part file', left_over, 1),
)
CASES = [
    *(Case(name, RECIPE.name, check, times) for name, check, times in CHECKS),
    Case('numbers of one and two digits', recipes.MID_EPOCH.name, by_number),
]


@pytest.mark.parametrize('case', CASES, ids=str)
def test_resumes_where_it_was(case, run_case):
    run_case(case)
