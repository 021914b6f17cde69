"""Damaged checkpoints, pointers and folders: what a resumed run does."""

import os
import shutil
from functools import partial

import pytest
import torch

from tests.faults import checkpoints, damage, recipes
from tests.faults.cases import Case
from tests.faults.recipes import Recipe

pytestmark = pytest.mark.faults
RECIPE = recipes.EPOCHS
KEPT = 6  # epochs; the others are trained again


def broken_off(lab, folder, recipe: Recipe = RECIPE):
    """A copy of a run that ended before its last two checkpoints."""
    work_dir = folder / 'run'
    shutil.copytree(lab.unbroken(recipe).work_dir, work_dir)
    at = recipe.total - 2 * recipe.interval
    newest = checkpoints.cleared(work_dir, recipe.length, at)
    (work_dir / 'last_checkpoint').write_text(str(newest))
    return work_dir, newest


def resumed(lab, work_dir, *options, recipe: Recipe = RECIPE):
    """Resume to the end; the launch and its exit status."""
    launch = lab.launch(recipe, work_dir, '--resume', *options)
    return launch, launch.end()


def first(launch) -> int:
    """Iteration that a launch began after."""
    return launch.positions()[0] - 1


def newest_damaged(harm, recipe, lab, folder):
    """The one before is used, with a warning; the end is the same."""
    work_dir, newest = broken_off(lab, folder, recipe)
    harm(newest)
    launch, status = resumed(lab, work_dir, recipe=recipe)
    output = launch.output()
    assert not (work_dir / 'code-ran').exists(), 'the checkpoint ran code'
    assert status == 0, f'exit {status}: {launch.tail()}'
    at = recipe.total - 3 * recipe.interval
    assert first(launch) == at, f'began after {first(launch)}, not {at}'
    warned = [
        line
        for line in output.splitlines()
        if newest.name in line and 'WARNING' in line.upper()
    ]
    assert warned, f'no warning names {newest.name}'
    return 1, f'warned, one before used, {lab.finished(recipe, work_dir)}'


def two_damaged(lab, folder):
    """The third newest is used."""
    work_dir, newest = broken_off(lab, folder)
    newest.write_bytes(b'')
    damage.zero_tail(work_dir / f'epoch_{KEPT - 1}.pth')
    launch, status = resumed(lab, work_dir)
    assert status == 0, f'exit {status}: {launch.tail()}'
    assert first(launch) == 10 * (KEPT - 2)
    return 2, f'third newest used, {lab.finished(RECIPE, work_dir)}'


def all_damaged(lab, folder):
    """An error, not a fresh start; nothing is removed."""
    work_dir, _ = broken_off(lab, folder)
    before = sorted(work_dir.glob('*.pth'))
    for path in before:
        damage.cut(0.5)(path)
    launch = lab.launch(RECIPE, work_dir, '--resume')
    launch.refusal()
    assert sorted(work_dir.glob('*.pth')) == before
    return len(before), 'refused with a sentence, nothing removed'


def named_damaged(lab, folder):
    """One that is named is used or refused, never replaced."""
    work_dir, newest = broken_off(lab, folder)
    damage.flip(damage.largest_tensor)(newest)
    launch = lab.launch(RECIPE, work_dir, '--resume', str(newest))
    launch.refusal(newest.name)
    return 1, 'refused with a sentence'


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


def without_model_part(lab, folder):
    """A whole file that lacks a part of the model does not resume."""
    work_dir, newest = broken_off(lab, folder)
    content = checkpoints.load(newest)
    weights = content['state_dict']
    for name in [n for n in weights if n.startswith('head.')]:
        del weights[name]
    torch.save(content, newest)
    launch = lab.launch(RECIPE, work_dir, '--resume', str(newest))
    return 1, launch.refusal('head.')


def other_model(option, lab, folder):
    """A checkpoint of another model does not resume."""
    work_dir, _ = broken_off(lab, folder)
    launch = lab.launch(RECIPE, work_dir, '--resume', '--cfg-options', option)
    return 1, launch.refusal()


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


HARMS = {
    'cut to nothing': damage.cut(0),
    'cut at a hundredth': damage.cut(0.01),
    'cut in the middle': damage.cut(0.5),
    'cut shortly before the end': damage.cut(0.995),
    'cut by one byte': damage.cut_last_byte,
    'half of it zeros': damage.zero_tail,
    'byte flipped in the first tensor': damage.flip(damage.first_tensor),
    'byte flipped in the largest tensor': damage.flip(damage.largest_tensor),
    'byte flipped in the last tensor': damage.flip(damage.last_tensor, 0.9),
    'byte flipped in the description': damage.flip(damage.pickled),
    'byte flipped in the contents': damage.flip_directory,
    'no checkpoint but a whole file': damage.other_content,
    'a page of HTML': damage.text,
    'code in the pickle': damage.trap,
}
POINTERS = {
    'missing': None,
    'empty': b'',
    'garbage': bytes(range(256)),
    'a URL': b'http://127.0.0.1:9/epoch_6.pth',
    'a file that is gone': b'/nowhere/epoch_6.pth',
    'another run': elsewhere,
}
OTHERS = {
    'cut in the middle': damage.cut(0.5),
    'byte flipped in the largest tensor': damage.flip(damage.largest_tensor),
}
CASES = [
    *(
        Case(
            f'newest checkpoint: {name}',
            RECIPE.name,
            partial(newest_damaged, harm, RECIPE),
        )
        for name, harm in HARMS.items()
    ),
    *(
        Case(
            f'newest checkpoint: {name}',
            recipe.name,
            partial(newest_damaged, harm, recipe),
        )
        for recipe in (recipes.TWO_BY_EPOCH, recipes.DETECTION)
        for name, harm in OTHERS.items()
    ),
    *(
        Case(
            f'last_checkpoint: {name}', RECIPE.name, partial(pointer, content)
        )
        for name, content in POINTERS.items()
    ),
    *(
        Case(name, recipe.name, check, times)
        for name, recipe, check, times in (
            ('two newest checkpoints damaged', RECIPE, two_damaged, 2),
            ('all checkpoints damaged', RECIPE, all_damaged, KEPT),
            ('named checkpoint damaged', RECIPE, named_damaged, 1),
            ('folder moved', RECIPE, moved, 1),
            ('folder copied', RECIPE, copied, 1),
            ('newest checkpoint has the oldest date', RECIPE, touched, 1),
            ('numbers of one and two digits', recipes.MID_EPOCH, by_number, 1),
            ('head missing in the checkpoint', RECIPE, without_model_part, 1),
            ('--resume in an empty folder', RECIPE, nothing_there, 1),
            ('checkpoints without --resume', RECIPE, not_asked_to_resume, 2),
            ('left-over .part file', RECIPE, left_over, 1),
        )
    ),
    *(
        Case(
            f'resumed with {option}', RECIPE.name, partial(other_model, option)
        )
        for option in ('model.queue_len=128', 'model.head.hid_channels=64')
    ),
]


@pytest.mark.parametrize('case', CASES, ids=str)
def test_goes_on_or_says_why(case, run_case):
    run_case(case)
