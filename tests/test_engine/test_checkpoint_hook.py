"""At any time there is a whole checkpoint, and no more than were asked for."""

import errno
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from pixcon_mm.checkpoint.run_checkpoint import newest_checkpoint
from pixcon_mm.errors import UserError, explain
from tests.test_engine.runs import (  # noqa: F401
    At,
    assert_continues,
    checkpoint,
    config,
    framework_state,
    resume,
    train,
)


@METRICS.register_module()
class GivenScores(BaseMetric):
    """Scores of the validations, one after the other."""

    def __init__(self, scores):
        super().__init__()
        self.scores = list(scores)

    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        scores = self.scores.pop(0)
        return scores if isinstance(scores, dict) else dict(score=scores)


def hook(**options):
    return dict(default_hooks=dict(checkpoint=options))


def validated(*scores):
    return dict(
        train_cfg=dict(max_epochs=len(scores)),
        val_cfg=dict(type='ValLoop'),
        val_evaluator=dict(type='GivenScores', scores=scores),
        val_dataloader=dict(
            batch_size=4,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(type='ToyImages', size=4),
        ),
    )


def names(runner_or_folder):
    folder = getattr(runner_or_folder, 'work_dir', runner_or_folder)
    return sorted(path.name for path in Path(folder).glob('*.pth'))


@pytest.fixture
def calls(monkeypatch):
    """Names of the checkpoints that are there when one begins or ends."""
    seen, save = [], torch.save

    def spy(content, file):
        folder = Path(file.name).parent
        seen.append(names(folder))
        save(content, file)
        seen.append(names(folder))

    monkeypatch.setattr(torch, 'save', spy)
    return seen


def test_the_old_one_is_there_until_the_new_one_is_whole(tmp_path, calls):
    runner, _ = train(config(tmp_path, 'run', hook(max_keep_ckpts=1)))
    assert names(runner) == ['iter_8.pth']
    before = [[], *([f'iter_{n}.pth'] for n in range(1, 8))]
    assert calls == [name for name in before for _ in range(2)]


def test_so_many_are_kept(tmp_path):
    runner, _ = train(
        config(tmp_path, 'run', hook(max_keep_ckpts=3, interval=2))
    )
    assert names(runner) == ['iter_4.pth', 'iter_6.pth', 'iter_8.pth']


@pytest.mark.parametrize('at', ['the start', 'the middle', 'the end'])
def test_a_full_disk_leaves_the_old_one(tmp_path, monkeypatch, at):
    save = torch.save

    def full(content, file):
        if content['meta']['iter'] < 5:
            return save(content, file)
        if at != 'the start':
            save(content, file)
        if at == 'the middle':
            file.truncate(file.tell() // 2)
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(torch, 'save', full)
    with pytest.raises(OSError, match='No space') as caught:
        train(config(tmp_path, 'run', hook(max_keep_ckpts=1)))
    assert 'the disk is full: make room' in explain(caught.value)
    folder = tmp_path / 'run'
    assert names(folder) == ['iter_4.pth']
    assert newest_checkpoint(folder) == (folder / 'iter_4.pth', {})
    assert not list(folder.glob('.*.part'))
    monkeypatch.undo()
    whole, expected = train(config(tmp_path, 'whole'))
    _, seen = resume(config(tmp_path, 'run', hook(max_keep_ckpts=1)))
    assert_continues(seen, expected, 4)


@pytest.mark.parametrize('by_epoch', [False, True])
def test_a_save_waits_for_the_step_of_the_optimiser(tmp_path, by_epoch):
    """Steps come after iterations 3, 6 and 8; epochs end at 4 and 8."""
    accumulated = dict(optim_wrapper=dict(accumulative_counts=3))
    options = hook(by_epoch=by_epoch, interval=1 if by_epoch else 4)
    runner, _ = train(config(tmp_path, 'run', accumulated, options))
    found = {
        path.name: torch.load(path, weights_only=True)['meta']
        for path in Path(runner.work_dir).glob('*.pth')
    }
    counts = {n: (m['epoch'], m['iter']) for n, m in found.items()}
    if by_epoch:
        assert counts == {'epoch_1.pth': (1, 6), 'epoch_2.pth': (2, 8)}
    else:
        assert counts == {'iter_6.pth': (1, 6), 'iter_8.pth': (1, 8)}


def test_a_validation_within_an_accumulation_saves_after_it(tmp_path):
    changes = (
        dict(optim_wrapper=dict(accumulative_counts=3)),
        validated(1.0, 2.0),
        hook(by_epoch=True, save_best='score', rule='greater'),
    )
    whole, expected = train(config(tmp_path, 'run', *changes))
    path = checkpoint(whole, 'epoch_1')
    content = torch.load(path, weights_only=True)
    assert content['meta']['iter'] == 6
    best = content['message_hub']['runtime_info']['best_ckpt']
    assert Path(best).name == 'best_score_epoch_1.pth'
    _, seen = resume(config(tmp_path, 'resumed', *changes), path)
    assert_continues(seen, expected, 6)


def test_the_best_is_there_until_a_better_one_is_whole(tmp_path, calls):
    runner, _ = train(
        config(
            *(tmp_path, 'run', validated(1.0, 3.0, 2.0, 4.0)),
            hook(by_epoch=True, max_keep_ckpts=1, save_best='score'),
            dict(default_hooks=dict(checkpoint=dict(rule='greater'))),
        )
    )
    assert names(runner) == ['best_score_epoch_4.pth', 'epoch_4.pth']
    # Epochs 3 and 4: the regular one, the best, the regular one again.
    assert calls[-4:] == [
        ['best_score_epoch_2.pth', 'epoch_4.pth'],
        ['best_score_epoch_2.pth', 'epoch_4.pth'],
        *[['best_score_epoch_2.pth', 'best_score_epoch_4.pth', 'epoch_4.pth']]
        * 2,
    ]


@pytest.mark.parametrize('kinds', [['score'], ['score', 'other']])
def test_the_best_of_a_copied_folder_is_its_own(tmp_path, kinds):
    def changes(*scores):
        scores = [dict(score=s, other=-s) for s in scores]
        return (
            validated(*scores),
            hook(by_epoch=True, save_best=kinds, rule='greater'),
        )

    train(config(tmp_path, 'original', *changes(1.0)))
    shutil.copytree(tmp_path / 'original', tmp_path / 'copy')
    before = names(tmp_path / 'original')
    cfg = config(tmp_path, 'copy', *changes(9.0, 5.0))
    cfg.val_evaluator.scores = [dict(score=5.0, other=5.0)]
    resume(cfg)
    assert names(tmp_path / 'original') == before
    assert names(tmp_path / 'copy') == sorted(
        ['epoch_1.pth', 'epoch_2.pth']
        + [f'best_{kind}_epoch_2.pth' for kind in kinds]
    )


def test_what_a_signal_or_a_kill_has_left_goes_with_the_next(tmp_path):
    options = hook(by_epoch=True, max_keep_ckpts=1)
    three = dict(train_cfg=dict(max_epochs=3))

    def leave(runner):
        meta = dict(epoch=0, iter=3)
        runner.save_checkpoint(runner.work_dir, 'iter_3.pth', meta=meta)
        runner.save_checkpoint(runner.work_dir, 'epoch_0.pth', meta=meta)
        runner.save_checkpoint(runner.work_dir, 'final.pth', meta=meta)

    seen = []
    first = At(5, lambda runner: seen.append(names(runner)))
    runner, _ = train(
        config(tmp_path, 'run', options, three), At(3, leave), first
    )
    assert seen == [['epoch_1.pth', 'final.pth']]
    assert names(runner) == ['epoch_3.pth', 'final.pth']


def test_two_hooks_leave_the_others_files_alone(tmp_path):
    second = dict(type='WholeCheckpointHook', by_epoch=True, interval=1)
    cfg = config(tmp_path, 'run', hook(max_keep_ckpts=1, interval=3))
    cfg.custom_hooks = [dict(second, max_keep_ckpts=2)]
    runner, _ = train(cfg)
    assert names(runner) == ['epoch_1.pth', 'epoch_2.pth', 'iter_8.pth']


@pytest.mark.parametrize('where', ['weights', 'momentum'])
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_nothing_that_is_not_finite_is_saved(tmp_path, where, value):
    def spoil(runner):
        (parameter, *_) = runner.model.parameters()
        state = runner.optim_wrapper.optimizer.state[parameter]
        tensor = dict(weights=parameter, momentum=state['momentum_buffer'])
        tensor[where].data.view(-1)[3] = value

    with pytest.raises(UserError) as caught:
        train(config(tmp_path, 'run', hook(max_keep_ckpts=1)), At(4, spoil))
    text = str(caught.value)
    name = dict(
        weights='linear.weight', momentum='momentum_buffer of parameter 0'
    )
    assert f'iter_4.pth is not written: {name[where]} is not finite' in text
    assert names(tmp_path / 'run') == ['iter_3.pth']


def test_finite_values_whose_sum_is_not_are_saved(tmp_path):
    def enlarge(runner):
        runner.model.norm.running_var.fill_(3e38)

    runner, _ = train(config(tmp_path, 'run'), At(8, enlarge))
    saved = torch.load(checkpoint(runner, 'iter_8'), weights_only=True)
    assert saved['state_dict']['norm.running_var'].tolist() == pytest.approx(
        [3e38] * 3
    )
