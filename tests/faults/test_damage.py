"""Damaged checkpoints: another one is used, or a sentence says why not."""

from functools import partial

import pytest
import torch

from tests.faults import checkpoints, damage, recipes
from tests.faults.cases import Case
from tests.faults.stories import KEPT, RECIPE, broken_off, resumed

pytestmark = pytest.mark.faults


def newest_damaged(harm, recipe, lab, folder):
    """Check that the one before is used, with a warning."""
    work_dir, newest = broken_off(lab, folder, recipe)
    harm(newest)
    at = recipe.total - 3 * recipe.interval
    launch, outcome = resumed(lab, work_dir, at, recipe)
    assert not (work_dir / 'code-ran').exists(), 'the checkpoint ran code'
    warned = [
        line
        for line in launch.output().splitlines()
        if newest.name in line and 'WARNING' in line.upper()
    ]
    assert warned, f'no warning names {newest.name}'
    return 1, f'warned, one before used, {outcome}'


def two_damaged(lab, folder):
    """Check that the third newest is used."""
    work_dir, newest = broken_off(lab, folder)
    newest.write_bytes(b'')
    damage.zero_tail(work_dir / f'epoch_{KEPT - 1}.pth')
    _, outcome = resumed(lab, work_dir, RECIPE.length * (KEPT - 2))
    return 2, f'third newest used, {outcome}'


def all_damaged(lab, folder):
    """Check for an error, not a fresh start; nothing is removed."""
    work_dir, _ = broken_off(lab, folder)
    before = sorted(work_dir.glob('*.pth'))
    for path in before:
        damage.cut(0.5)(path)
    launch = lab.launch(RECIPE, work_dir, '--resume')
    launch.refusal()
    assert sorted(work_dir.glob('*.pth')) == before
    return len(before), 'refused with a sentence, nothing removed'


def named_damaged(lab, folder):
    """Check that one that is named is never replaced by another."""
    work_dir, newest = broken_off(lab, folder)
    damage.flip(damage.largest_tensor)(newest)
    launch = lab.launch(RECIPE, work_dir, '--resume', str(newest))
    launch.refusal(newest.name)
    return 1, 'refused with a sentence'


def without_model_part(lab, folder):
    """Check that a file that lacks a part of the model is refused."""
    work_dir, newest = broken_off(lab, folder)
    content = checkpoints.load(newest)
    weights = content['state_dict']
    for name in [n for n in weights if n.startswith('head.')]:
        del weights[name]
    torch.save(content, newest)
    launch = lab.launch(RECIPE, work_dir, '--resume', str(newest))
    return 1, launch.refusal('head.')


def other_model(recipe, options, lab, folder):
    """Check that a checkpoint of another model is refused."""
    work_dir, newest = broken_off(lab, folder, recipe)
    launch = lab.launch(
        recipe, work_dir, '--resume', '--cfg-options', *options
    )
    return 1, launch.refusal(newest.name, 'another shape')


HARMS = {
    'cut to nothing': damage.cut(0),
    'cut at a hundredth': damage.cut(0.01),
    'cut in the middle': damage.cut(0.5),
    'cut shortly before the end': damage.cut(0.995),
    'cut by one byte': damage.cut_last_byte,
    'half of it zeros': damage.zero_tail,
    'byte flipped in the first tensor': damage.flip(
        lambda r: damage.tensor_records(r)[0]
    ),
    'byte flipped in the largest tensor': damage.flip(damage.largest_tensor),
    'byte flipped in the last tensor': damage.flip(
        lambda r: damage.tensor_records(r)[-1], 0.9
    ),
    'byte flipped in the description': damage.flip(damage.description),
    'byte flipped in the contents': damage.flip_directory,
    'no checkpoint but a whole file': damage.other_content,
    'a page of HTML': damage.web_page,
    'code in the pickle': damage.trap,
}
OTHERS = ('cut in the middle', 'byte flipped in the largest tensor')
HARMED = (
    *((RECIPE, name) for name in HARMS),
    *((recipes.TWO_BY_EPOCH, name) for name in OTHERS),
    *((recipes.DETECTION, name) for name in OTHERS),
)
HEADS = [
    f'model.roi_head.{head}_head.num_classes=9' for head in ('bbox', 'mask')
]
CHANGED = (
    (RECIPE, 'model.queue_len', ['model.queue_len=128']),
    (RECIPE, 'model.head.hid_channels', ['model.head.hid_channels=64']),
    (recipes.DETECTION, 'another number of classes', HEADS),
)
CASES = [
    *(
        Case(
            f'newest checkpoint: {name}',
            recipe.name,
            partial(newest_damaged, HARMS[name], recipe),
        )
        for recipe, name in HARMED
    ),
    *(
        Case(name, RECIPE.name, check, times)
        for name, check, times in (
            ('two newest checkpoints damaged', two_damaged, 2),
            ('all checkpoints damaged', all_damaged, KEPT),
            ('named checkpoint damaged', named_damaged, 1),
            ('head missing in the checkpoint', without_model_part, 1),
        )
    ),
    *(
        Case(
            f'resumed with {what}',
            recipe.name,
            partial(other_model, recipe, options),
        )
        for recipe, what, options in CHANGED
    ),
]


@pytest.mark.parametrize('case', CASES, ids=str)
def test_resumes_or_says_why(case, run_case):
    run_case(case)
