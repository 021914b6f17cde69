"""A validation that a kill has cut short is done when the run resumes."""

import re

import pytest
from mmengine.hooks import Hook

from tests.test_engine.runs import (
    EPOCHS,
    ITERATIONS,
    At,
    Killed,
    assert_continues,
    config,
    hook,
    log_of,
    names,
    resume,
    train,
)
from tests.test_engine.test_checkpoint_hook import validated

LOOPS = dict(
    epochs=[EPOCHS],
    iterations=[
        ITERATIONS,
        hook(interval=4),
        dict(train_cfg=dict(val_interval=4)),
    ],
)


class KillInValidation(Hook):
    def __init__(self, iteration):
        self.iteration = iteration

    def after_val_iter(self, runner, *args, **kwargs):
        if runner.iter == self.iteration:
            raise Killed


def recipe(folder, name, loop, *scores, **options):
    """Load the toy recipe with two validations, at iterations 4 and 8."""
    changes = [validated(1.0, 2.0), *LOOPS[loop], hook(**options)]
    cfg = config(folder, name, *changes)
    cfg.val_evaluator.scores = list(scores)
    return cfg


def score(runner):
    return runner.message_hub.get_scalar('val/score').data[0].tolist()


@pytest.mark.parametrize('loop', LOOPS)
@pytest.mark.parametrize('iteration', [4, 8])
def test_a_killed_validation_is_done_when_the_run_resumes(
    tmp_path, loop, iteration
):
    best = dict(save_best='score', rule='greater')
    whole, expected = train(recipe(tmp_path, 'whole', loop, 1, 2, **best))
    with pytest.raises(Killed):
        train(
            recipe(tmp_path, 'run', loop, 1, 2, **best),
            KillInValidation(iteration),
        )
    left = [1, 2] if iteration == 4 else [2]
    run, seen = resume(recipe(tmp_path, 'run', loop, *left, **best))
    assert score(run) == score(whole) == [1, 2]
    assert names(run) == names(whole)
    assert_continues(seen, expected, iteration)


@pytest.mark.parametrize('loop', LOOPS)
def test_a_complete_run_gives_its_own_result_again(tmp_path, loop):
    train(recipe(tmp_path, 'run', loop, 1, 2))
    run, seen = resume(recipe(tmp_path, 'run', loop, 2))
    assert score(run)[-1] == 2
    assert not seen.states
    # Nothing but the scores and times is logged.
    *_, line = re.findall(r'\(val\).*  (score: .*)', log_of(run))
    assert re.findall(r'\w+(?=:)', line) == ['score', 'data_time', 'time']


@pytest.mark.parametrize('loop', LOOPS)
def test_no_other_validation_is_repeated(tmp_path, loop):
    """Within an epoch, or if the checkpoint is later than the validation."""

    def kill(runner):
        raise Killed

    for options in (dict(by_epoch=False, interval=5), dict(save_best='score')):
        name = 'best' if 'save_best' in options else 'regular'
        options = {**options, 'rule': 'greater'}
        with pytest.raises(Killed):
            train(recipe(tmp_path, name, loop, 1, **options), At(6, kill))
        run, _ = resume(recipe(tmp_path, name, loop, 2, **options))
        assert score(run) == [1, 2]
