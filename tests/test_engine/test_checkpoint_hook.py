"""At any time there is a whole checkpoint, and no more than were asked for."""

import errno
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import CheckpointHook
from mmengine.registry import METRICS

from pixcon_mm.checkpoint.run_checkpoint import newest_checkpoint
from pixcon_mm.engine.hooks.checkpoint_hook import WholeCheckpointHook
from pixcon_mm.errors import explain
from tests.commands import sentence_of
from tests.test_engine.runs import (
    ACCUMULATED,
    ITERATIONS,
    At,
    assert_continues,
    checkpoint,
    config,
    hook,
    names,
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


@pytest.fixture
def calls(monkeypatch):
    """Note the checkpoints that exist when a save begins and ends."""
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


def test_a_resumed_run_keeps_as_many_files(tmp_path):
    size = dict(train_dataloader=dict(dataset=dict(size=10)))
    cfg = [config(tmp_path, 'run', hook(max_keep_ckpts=3), size) for _ in '01']
    runner, _ = train(cfg[0])
    kept = ['iter_10.pth', 'iter_8.pth', 'iter_9.pth']
    assert names(runner) == kept
    checkpoint(runner, 'iter_10').unlink()
    resume(cfg[1])
    assert names(runner) == kept


def test_a_run_that_kept_all_files_loses_none_when_it_keeps_fewer(tmp_path):
    def cfg(kept, epochs):
        options = hook(by_epoch=True, max_keep_ckpts=kept)
        length = dict(train_cfg=dict(max_epochs=epochs))
        return config(tmp_path, 'run', options, length)

    # The limit of the first run is not that of the second.
    train(cfg(1, 1))
    resume(cfg(-1, 4))
    for last in 7, 9:
        runner, _ = resume(cfg(2, last))
        left = (1, 2, 3, 4, last - 1, last)
        assert names(runner) == [f'epoch_{n}.pth' for n in left]


def test_a_full_disk_leaves_the_old_one(tmp_path, monkeypatch):
    save = torch.save

    def fill_up(content, file):
        save(content, file)
        if content['meta']['iter'] == 5:
            file.truncate(file.tell() // 2)
            raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(torch, 'save', fill_up)
    with pytest.raises(OSError, match='No space') as caught:
        train(config(tmp_path, 'run', hook(max_keep_ckpts=1)))
    assert 'the disk is full: make room' in explain(caught.value)
    folder = tmp_path / 'run'
    assert names(folder) == ['iter_4.pth']
    assert newest_checkpoint(folder) == (folder / 'iter_4.pth', {})
    assert not list(folder.glob('.*.part'))


def test_a_validation_within_an_accumulation_saves_after_it(tmp_path):
    changes = (
        ACCUMULATED,
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
    options = hook(
        by_epoch=True, max_keep_ckpts=1, save_best='score', rule='greater'
    )
    scores = validated(1.0, 3.0, 2.0, 4.0)
    runner, _ = train(config(tmp_path, 'run', options, scores))
    old, best = 'best_score_epoch_2.pth', 'best_score_epoch_4.pth'
    assert names(runner) == [best, 'epoch_4.pth']
    # Epoch 4: the best, and the regular one again.
    assert calls[-4:] == [
        *[[old, 'epoch_4.pth']] * 2,
        *[[old, best, 'epoch_4.pth']] * 2,
    ]


def test_a_best_of_an_unknown_metric_is_refused(tmp_path):
    options = hook(by_epoch=True, save_best='mIuo', rule='greater')
    cfg = config(tmp_path, 'run', options, validated(dict(aAcc=1, mIoU=2)))
    text = sentence_of(train, cfg)
    assert (
        "save_best='mIuo', but the validation measures 'aAcc' and 'mI" in text
    )
    assert names(tmp_path / 'run') == ['epoch_1.pth']


@pytest.mark.parametrize('kinds', [['score'], ['score', 'other']])
def test_the_best_of_a_copied_folder_is_its_own(tmp_path, kinds):
    def cfg(name, epochs, score):
        scores = [dict(score=score, other=score)] * epochs
        best = hook(by_epoch=True, save_best=kinds, rule='greater')
        return config(tmp_path, name, validated(*scores), best)

    train(cfg('original', 1, 1.0))
    shutil.copytree(tmp_path / 'original', tmp_path / 'copy')
    before = names(tmp_path / 'original')
    resume(cfg('copy', 2, 5.0))
    assert names(tmp_path / 'original') == before
    assert names(tmp_path / 'copy') == [
        *sorted(f'best_{kind}_epoch_2.pth' for kind in kinds),
        *('epoch_1.pth', 'epoch_2.pth'),
    ]


@pytest.mark.parametrize(
    ('scores', 'aside'),
    [
        ([1.0, 2.0, 3.0], ['best_score_epoch_3.pth', 'epoch_3.pth']),
        # The best of the epochs that the run continues stays.
        ([1.0, 3.0, 2.0], ['epoch_3.pth']),
    ],
)
def test_a_best_that_the_run_does_not_continue_is_kept(
    tmp_path, scores, aside
):
    options = hook(by_epoch=True, save_best='score', rule='greater')
    cfg = config(tmp_path, 'run', options, validated(*scores))
    whole, _ = train(cfg)
    cfg.val_evaluator.scores = [2.5]
    run, _ = resume(cfg, checkpoint(whole, 'epoch_2'))
    assert names(tmp_path / 'run/old-1') == aside
    best = 3 if len(aside) == 2 else 2
    kept = [f'best_score_epoch_{best}.pth']
    assert names(run) == kept + [f'epoch_{n}.pth' for n in (1, 2, 3)]


def test_a_best_that_is_gone_is_forgotten(tmp_path):
    """Epoch 4 replaced that of epoch 1, and epoch 2 is resumed."""
    options = hook(by_epoch=True, save_best='score', rule='greater')
    cfg = config(tmp_path, 'run', options, validated(5.0, 3.0, 4.0, 9.0, 8.0))
    whole, _ = train(cfg)
    assert names(whole)[0] == 'best_score_epoch_4.pth'
    # The validation of epoch 2, which came after the checkpoint, is repeated.
    cfg.val_evaluator.scores = [0.5, 1.0, 2.0, 1.5]
    run, _ = resume(cfg, checkpoint(whole, 'epoch_2'))
    best = [name for name in names(run) if name.startswith('best')]
    assert best == ['best_score_epoch_4.pth']
    known = run.message_hub.get_info('best_ckpt')
    assert Path(known) == checkpoint(run, 'best_score_epoch_4')
    assert run.message_hub.get_info('best_score') == 2.0
    log = Path(run.log_dir, f'{run.timestamp}.log').read_text()
    assert 'best_score_epoch_1.pth with 5.0, is not in' in log


@pytest.mark.parametrize(
    ('loop', 'last', 'meta'),
    [({}, 'epoch_2', (2, 8)), (ITERATIONS, 'iter_4', (0, 4))],
)
@pytest.mark.parametrize('interval', [1, 2, 99])
def test_a_run_that_ends_early_keeps_its_last_state(
    tmp_path, loop, last, meta, interval
):
    stop = dict(type='EarlyStoppingHook', monitor='score', patience=1)
    by_epoch = not loop
    options = hook(by_epoch=by_epoch, interval=interval)
    cfg = config(tmp_path, 'run', validated(5.0, 4.0, 3.0, 2.0), loop, options)
    if not by_epoch:
        cfg.train_cfg.val_interval = 2
    cfg.custom_hooks = [dict(stop, rule='greater')]
    runner, recorder = train(cfg)
    content = torch.load(checkpoint(runner, last), weights_only=False)
    assert (content['meta']['epoch'], content['meta']['iter']) == meta
    found = content['state_dict']
    own = runner.model.state_dict()
    assert all(torch.equal(found[name], own[name]) for name in own)
    assert max(recorder.states) == meta[1]


def test_leftovers_of_a_stopped_run_are_removed_by_the_next(tmp_path):
    options = hook(by_epoch=True, max_keep_ckpts=1)

    def leave(runner):
        for name in ('iter_3', 'epoch_0', 'epoch_99', 'final'):
            meta = dict(epoch=0, iter=3)
            runner.save_checkpoint(runner.work_dir, f'{name}.pth', meta=meta)

    seen = []
    look = At(5, lambda runner: seen.append(names(runner)))
    runner, _ = train(config(tmp_path, 'run', options), At(3, leave), look)
    assert seen == [['epoch_1.pth', 'final.pth']]
    assert names(runner) == ['epoch_2.pth', 'final.pth']


@pytest.mark.parametrize(
    ('second', 'files'),
    [
        (dict(by_epoch=True, interval=1), ['epoch_1', 'epoch_2', 'iter_8']),
        (dict(by_epoch=False, interval=5), ['iter_5', 'iter_8']),
    ],
)
def test_two_hooks_leave_the_others_files_alone(tmp_path, second, files):
    cfg = config(tmp_path, 'run', hook(max_keep_ckpts=1, interval=3))
    cfg.custom_hooks = [dict(second, type='CheckpointHook')]
    runner, _ = train(cfg)
    kinds = {type(h) for h in runner.hooks if isinstance(h, CheckpointHook)}
    assert kinds == {WholeCheckpointHook}
    assert names(runner) == [f'{name}.pth' for name in files]


@pytest.mark.parametrize(
    ('where', 'name'),
    [
        ('weights', 'linear.weight'),
        ('momentum', 'momentum_buffer of parameter 0'),
    ],
)
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_nothing_that_is_not_finite_is_saved(tmp_path, where, name, value):
    def spoil(runner):
        (parameter, *_) = runner.model.parameters()
        state = runner.optim_wrapper.optimizer.state[parameter]
        tensor = dict(weights=parameter, momentum=state['momentum_buffer'])
        tensor[where].data.view(-1)[3] = value

    cfg = config(tmp_path, 'run', hook(max_keep_ckpts=1))
    text = sentence_of(train, cfg, At(4, spoil))
    assert f'iter_4.pth is not written: {name} is not finite' in text
    assert names(tmp_path / 'run') == ['iter_3.pth']


def test_finite_values_whose_sum_is_not_are_saved(tmp_path):
    def enlarge(runner):
        runner.model.norm.running_var.fill_(3e38)

    runner, _ = train(config(tmp_path, 'run'), At(8, enlarge))
    saved = torch.load(checkpoint(runner, 'iter_8'), weights_only=True)
    assert (saved['state_dict']['norm.running_var'] == 3e38).all()
