"""A run continues exactly, or as its config now asks, or says why not."""

import copy
import re
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner

from pixcon_mm.errors import UserError
from tests.test_engine.runs import (  # noqa: F401
    ITERATIONS,
    LENGTH,
    At,
    assert_continues,
    checkpoint,
    config,
    framework_state,
    log_of,
    resume,
    train,
)

ACCUMULATED = dict(optim_wrapper=dict(accumulative_counts=3))
GROUPS = dict(
    optim_wrapper=dict(
        paramwise_cfg=dict(
            custom_keys=dict(norm=dict(lr_mult=0.1, decay_mult=0.0))
        )
    )
)


def schedules(epochs):
    """Schedules of a run of so many epochs."""
    iters = epochs * LENGTH
    warmup = dict(
        type='WarmupLR', start_factor=0.1, by_epoch=False, begin=0, end=3
    )
    return {
        'none': None,
        'epochs': [dict(type='CosineAnnealingLR', T_max=epochs, end=epochs)],
        'iterations': [
            dict(
                type='CosineAnnealingLR',
                T_max=epochs,
                end=epochs,
                convert_to_iter_based=True,
            )
        ],
        'warm-up and cosine': [
            dict(warmup, by_epoch=True, end=1, convert_to_iter_based=True),
            dict(type='CosineAnnealingLR', T_max=epochs, end=epochs),
        ],
        'warm-up, then cosine': [
            dict(warmup),
            dict(
                type='CosineAnnealingLR',
                by_epoch=False,
                begin=3,
                end=iters,
                T_max=iters - 3,
                eta_min=0.01,
            ),
        ],
        'warm-up and steps': [
            dict(warmup),
            dict(
                type='MultiStepLR',
                by_epoch=False,
                milestones=[iters // 2, iters - 2],
                gamma=0.3,
            ),
        ],
        'steps by epoch': [
            dict(type='MultiStepLR', milestones=[1, epochs - 1], gamma=0.3)
        ],
        'exponential': [dict(type='ExponentialLR', gamma=0.3)],
        'power': [dict(type='PolyLR', by_epoch=False, end=iters, power=0.9)],
        'one cycle': [
            dict(
                type='OneCycleLR', by_epoch=False, eta_max=1, total_steps=iters
            )
        ],
        'momentum': [
            dict(type='CosineAnnealingLR', T_max=epochs, end=epochs),
            dict(
                type='LinearMomentum',
                by_epoch=False,
                start_factor=0.5,
                end=iters,
            ),
        ],
    }


def with_schedule(name, epochs=2):
    return dict(
        train_cfg=dict(max_epochs=epochs),
        param_scheduler=schedules(epochs)[name],
    )


@pytest.mark.parametrize(
    'changes',
    [
        [],
        [ACCUMULATED],
        [ITERATIONS],
        [ITERATIONS, ACCUMULATED],
        [GROUPS, with_schedule('warm-up and cosine')],
        *([with_schedule(name)] for name in schedules(2) if name != 'none'),
    ],
    ids=[
        'plain',
        'accumulated',
        'by iteration',
        'by iteration, accumulated',
        'groups',
        *(name for name in schedules(2) if name != 'none'),
    ],
)
def test_any_iteration_continues_bit_for_bit(tmp_path, changes):
    whole, expected = train(config(tmp_path, 'whole', *changes))
    starts = [
        n for n in range(1, 8) if checkpoint(whole, f'iter_{n}').exists()
    ]
    assert starts == ([3, 6] if ACCUMULATED in changes else [*range(1, 8)])
    for start in starts:
        cfg = config(tmp_path, f'from-{start}', *changes)
        run, seen = resume(cfg, checkpoint(whole, f'iter_{start}'))
        assert_continues(seen, expected, start)
        history = run.message_hub.get_scalar('train/loss').data[0]
        known = whole.message_hub.get_scalar('train/loss').data[0]
        assert history.tolist() == known.tolist()
        for words in ('now and was', 'has changed', 'The seed stays'):
            assert words not in log_of(run)


@pytest.mark.parametrize('accumulate', [1, 3])
def test_an_epoch_continues_after_its_end(tmp_path, accumulate):
    """With accumulation, its checkpoint is of the step after it."""
    changes = (
        dict(default_hooks=dict(checkpoint=dict(by_epoch=True))),
        dict(optim_wrapper=dict(accumulative_counts=accumulate)),
    )
    whole, expected = train(config(tmp_path, 'whole', *changes))
    path = checkpoint(whole, 'epoch_1')
    meta = torch.load(path, weights_only=True)['meta']
    start = 4 if accumulate == 1 else 6
    assert (meta['epoch'], meta['iter']) == (1, start)
    _, seen = resume(config(tmp_path, 'resumed', *changes), path)
    assert_continues(seen, expected, start)


@pytest.mark.parametrize('name', schedules(2))
@pytest.mark.parametrize('groups', [False, True])
@pytest.mark.parametrize('other', ['longer', 'shorter', 'rate'])
def test_another_schedule_is_followed_as_if_from_the_start(
    tmp_path, name, groups, other
):
    common = [GROUPS] if groups else []
    new = with_schedule(name, dict(longer=3, shorter=2, rate=2)[other])
    old = with_schedule(name, 3 if other == 'shorter' else 2)
    if other == 'rate':
        new['optim_wrapper'] = dict(optimizer=dict(lr=0.03))
    whole, _ = train(config(tmp_path, 'whole', old, *common))
    _, expected = train(config(tmp_path, 'expected', new, *common))
    for start in (1, 3, 4, 5, 7):
        cfg = config(tmp_path, f'from-{start}', new, *common)
        _, seen = resume(cfg, checkpoint(whole, f'iter_{start}'))
        assert list(seen.groups) == list(expected.groups)[start:]
        for now, group in seen.groups.items():
            assert group == expected.groups[now], (start, now)


@pytest.mark.parametrize(
    ('first', 'then'),
    [
        ('none', 'momentum'),
        ('momentum', 'none'),
        # Its settings are a part of the other's.
        ('steps by epoch', 'exponential'),
    ],
)
def test_a_schedule_of_another_kind(tmp_path, first, then):
    whole, _ = train(config(tmp_path, 'whole', with_schedule(first)))
    _, expected = train(config(tmp_path, 'expected', with_schedule(then)))
    for start in (3, 5):
        cfg = config(tmp_path, f'from-{start}', with_schedule(then))
        _, seen = resume(cfg, checkpoint(whole, f'iter_{start}'))
        for now, group in seen.groups.items():
            assert group == expected.groups[now], now


def test_settings_of_the_optimiser_are_the_configs(tmp_path):
    whole, _ = train(config(tmp_path, 'whole'))
    asked = dict(weight_decay=0.5, momentum=0.3, foreach=False)
    new = dict(optim_wrapper=dict(optimizer=asked))
    cfg = config(tmp_path, 'resumed', new)
    run, seen = resume(cfg, checkpoint(whole, 'iter_4'))
    (group,) = run.optim_wrapper.param_groups
    assert {name: group[name] for name in asked} == asked
    log = log_of(run)
    assert 'weight_decay is 0.5 now and was 0.01.' in log
    assert 'momentum is 0.3 now and was 0.9.' in log
    # The kernel is no setting of the training.
    assert 'foreach is' not in log
    assert list(seen.states) == [5, 6, 7, 8]


@pytest.mark.parametrize('then', ['longer', 'rate'])
def test_a_change_of_the_schedule_is_said(tmp_path, then):
    whole, _ = train(config(tmp_path, 'whole', with_schedule('epochs')))
    new = with_schedule('epochs', 4 if then == 'longer' else 2)
    if then == 'rate':
        new['optim_wrapper'] = dict(optimizer=dict(lr=0.05))
    run, _ = resume(
        config(tmp_path, 'resumed', new), checkpoint(whole, 'iter_4')
    )
    log = log_of(run)
    assert 'The schedule has changed and is that of the config now' in log
    assert ('initial_lr is 0.05 now and was 0.1.' in log) == (then == 'rate')


def test_another_batch_keeps_the_share_of_the_epoch(tmp_path):
    """4 iterations of 4 images become 2 of 8, or 8 of 2."""
    images = dict(train_dataloader=dict(batch_size=4, dataset=dict(size=16)))
    whole, expected = train(
        config(tmp_path, 'whole', with_schedule('iterations'), images)
    )
    order = torch.cat([expected.images[n] for n in range(1, 9)])
    for start in (2, 4, 6):
        path = checkpoint(whole, f'iter_{start}')
        for batch in (2, 8):
            new = dict(
                train_dataloader=dict(batch_size=batch, dataset=dict(size=16))
            )
            cfg = config(
                *(tmp_path, f'{batch}-{start}', new),
                with_schedule('iterations'),
            )
            run, seen = resume(cfg, path)
            first = start * 4 // batch
            assert list(seen.images) == [*range(first + 1, 32 // batch + 1)]
            # The images that are left, in the same order.
            images = torch.cat([*seen.images.values()])
            assert torch.equal(images, order[start * 4 :])
            log = log_of(run)
            assert f'The total batch is {batch} now and was 4.' in log
            assert (
                f'An epoch has {16 // batch} iterations now and had 4' in log
            )
            cfg = config(
                *(tmp_path, f'{batch}-{start}-new', new),
                with_schedule('iterations'),
            )
            _, straight = train(cfg)
            for now, group in seen.groups.items():
                assert group == straight.groups[now]


def test_another_batch_of_a_run_in_iterations(tmp_path):
    whole, _ = train(config(tmp_path, 'whole', ITERATIONS))
    new = dict(train_dataloader=dict(batch_size=4))
    cfg = config(tmp_path, 'resumed', ITERATIONS, new)
    run, seen = resume(cfg, checkpoint(whole, 'iter_3'))
    assert list(seen.images) == [4, 5, 6, 7, 8]
    assert 'The total batch is 4 now and was 2.' in log_of(run)
    assert 'An epoch has' not in log_of(run)


def test_lines_count_from_the_start_of_the_epoch(tmp_path):
    whole, _ = train(config(tmp_path, 'whole'))
    run, _ = resume(config(tmp_path, 'resumed'), checkpoint(whole, 'iter_2'))
    places = re.findall(r'epoch (\d)/2 \[(\d)/4\]', log_of(run))
    assert places == [('1', '3'), ('1', '4')] + [('2', n) for n in '1234']


def edited(path, edit):
    """A copy of a checkpoint with something changed."""
    content = torch.load(path, weights_only=True)
    edit(content)
    other = path.with_name(f'edited_{path.name}')
    torch.save(content, other)
    return other


def test_another_number_of_processes(tmp_path):
    """Two processes with batches of 2 had 2 iterations an epoch."""
    whole, expected = train(config(tmp_path, 'whole'))

    def two_processes(content):
        content['meta'].update(epoch=0, iter=1)
        content['meta']['scale'].update(
            processes=2, total_batch=4, epoch_length=2
        )

    path = edited(checkpoint(whole, 'iter_2'), two_processes)
    run, seen = resume(config(tmp_path, 'resumed'), path)
    assert_continues(seen, expected, 2)
    log = log_of(run)
    assert 'The run has 1 process(es) now and had 2.' in log
    assert 'The total batch is 2 now and was 4.' in log


def test_the_newest_checkpoint_counts_epochs_if_the_batch_has_changed(
    tmp_path,
):
    """Fewer iterations are further on when they are larger."""
    every_epoch = dict(default_hooks=dict(checkpoint=dict(by_epoch=True)))
    train(config(tmp_path, 'run', every_epoch))
    new = dict(
        train_dataloader=dict(batch_size=4), train_cfg=dict(max_epochs=3)
    )
    resume(config(tmp_path, 'run', every_epoch, new))
    names = {p.name for p in Path(tmp_path / 'run').glob('*.pth')}
    assert names == {'epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth'}
    run, seen = resume(config(tmp_path, 'run', every_epoch, new))
    assert not seen.states
    assert run.epoch == 3


def refused(tmp_path, path, *changes):
    cfg = config(tmp_path, 'refused', *changes)
    with pytest.raises(UserError) as caught:
        resume(cfg, path)
    text = str(caught.value)
    assert str(path) in text
    assert '\n' not in text
    return text


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (
            dict(
                optim_wrapper=dict(
                    optimizer=dict(_delete_=True, type='Adam', lr=0.1)
                )
            ),
            'it has the state of SGD for 1 group(s) of parameters, and the '
            'run uses Adam for 1',
        ),
        (GROUPS, 'SGD for 1 group(s) of parameters, and the run uses SGD for'),
    ],
)
def test_another_optimiser_is_refused(tmp_path, change, words):
    whole, _ = train(config(tmp_path, 'whole'))
    path = checkpoint(whole, 'iter_4')
    assert words in refused(tmp_path, path, change)


def drop(name):
    return lambda content: content['state_dict'].pop(name)


def reshape(content):
    content['state_dict']['linear.weight'] = torch.zeros(5, 4)


def add(content):
    content['state_dict']['head.weight'] = torch.zeros(1)


@pytest.mark.parametrize(
    ('edit', 'words'),
    [
        (drop('linear.bias'), 'are not in the file (linear.bias)'),
        (drop('norm.running_var'), 'are not in the file (norm.running_var)'),
        (reshape, 'linear.weight: (5, 4) in the file, (3, 4) in the model'),
        (add, 'no place for 1 tensors of the file (head.weight)'),
        (lambda c: c.pop('optimizer'), "it has no 'optimizer'"),
        (lambda c: c.pop('message_hub'), "it has no 'message_hub'"),
        (lambda c: c.pop('meta'), "it has no 'meta'"),
        (lambda c: c['meta'].pop('iter'), "'iter'"),
    ],
)
def test_another_model_is_refused(tmp_path, edit, words):
    whole, _ = train(config(tmp_path, 'whole'))
    path = edited(checkpoint(whole, 'iter_4'), edit)
    assert words in refused(tmp_path, path)


@pytest.mark.parametrize('name', ['gone.pth', 'https://host/epoch_1.pth'])
def test_what_is_no_local_file_is_refused(tmp_path, name):
    cfg = config(tmp_path, 'run')
    with pytest.raises(UserError, match='There is no checkpoint'):
        resume(cfg, name)


def test_buffers_are_laid_out_as_their_parameters(tmp_path):
    """A fused step walks both by their addresses."""
    whole, expected = train(config(tmp_path, 'whole'))

    def transpose(content):
        state = content['optimizer']['state'][0]
        buffer = state['momentum_buffer']
        assert buffer.shape == (3, 4)
        state['momentum_buffer'] = buffer.t().contiguous().t()

    path = edited(checkpoint(whole, 'iter_3'), transpose)
    fused = dict(optim_wrapper=dict(optimizer=dict(fused=True)))
    run, seen = resume(config(tmp_path, 'resumed', fused), path)
    for parameter, state in run.optim_wrapper.optimizer.state.items():
        assert state['momentum_buffer'].stride() == parameter.stride()
    for now in seen.states:
        for name, tensor in expected.states[now].items():
            torch.testing.assert_close(seen.states[now][name], tensor)


@pytest.mark.parametrize('by', ['epoch', 'iteration'])
def test_a_checkpoint_of_mmengines_runner_continues(tmp_path, by):
    changes = [with_schedule('warm-up and cosine')]
    changes += [ITERATIONS] if by == 'iteration' else []
    stock = dict(
        default_hooks=dict(
            runtime_info=dict(type='RuntimeInfoHook'),
            checkpoint=dict(
                type='CheckpointHook',
                by_epoch=by == 'epoch',
                interval=1 if by == 'epoch' else LENGTH,
            ),
        )
    )
    whole, expected = train(config(tmp_path, 'whole', *changes))
    runner = Runner.from_cfg(config(tmp_path, 'stock', *changes, stock))
    runner.train()
    path = checkpoint(runner, 'epoch_1' if by == 'epoch' else 'iter_4')
    with pytest.raises(Exception, match='HistoryBuffer|getattr'):
        torch.load(path, weights_only=True)  # as its histories are code
    run, seen = resume(config(tmp_path, 'resumed', *changes), path)
    # MMEngine's loop draws the same batches and the toy draws no numbers.
    assert_continues(seen, expected, LENGTH)
    assert run.message_hub.get_scalar('train/loss').data[0].size == 4
    assert 'is not HistoryBuffer' not in log_of(run)
    assert 'is not defined in message_hub' not in log_of(run)


def test_a_foreign_epoch_of_another_length_starts_where_it_ended(tmp_path):
    whole, _ = train(config(tmp_path, 'whole'))

    def foreign(content):
        del content['meta']['scale']
        content['meta'].update(epoch=1, iter=100)

    path = edited(checkpoint(whole, 'iter_4'), foreign)
    _, seen = resume(config(tmp_path, 'resumed'), path)
    assert list(seen.states) == [5, 6, 7, 8]


def test_the_newest_of_a_folder_that_was_moved(tmp_path):
    """The checkpoint is that of the folder, not where it came from."""
    whole, expected = train(config(tmp_path, 'whole'))
    shutil.copytree(whole.work_dir, tmp_path / 'copy')
    shutil.rmtree(whole.work_dir)
    for number in (7, 8):
        checkpoint_there = tmp_path / f'copy/iter_{number}.pth'
        checkpoint_there.unlink()
    (tmp_path / 'copy/last_checkpoint').write_text('/elsewhere/iter_9.pth')
    _, seen = resume(config(tmp_path, 'copy'))
    assert_continues(seen, expected, 6)


def test_a_damaged_newest_one_is_passed_over(tmp_path):
    whole, expected = train(config(tmp_path, 'run'))
    newest = checkpoint(whole, 'iter_8')
    newest.write_bytes(newest.read_bytes()[:-100])
    checkpoint(whole, 'iter_7').write_bytes(b'')
    run, seen = resume(config(tmp_path, 'run'))
    assert_continues(seen, expected, 6)
    log = log_of(run)
    for words in ('iter_8.pth is', 'iter_7.pth is', 'from iter_6.pth.'):
        assert words in log


def test_nothing_whole_is_no_fresh_start(tmp_path):
    whole, _ = train(config(tmp_path, 'run'))
    for path in Path(whole.work_dir).glob('*.pth'):
        path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match='None of the 8 .* --overwrite'):
        resume(config(tmp_path, 'run'))


def test_weights_alone_are_no_fresh_start(tmp_path):
    change = dict(default_hooks=dict(checkpoint=dict(save_optimizer=False)))
    train(config(tmp_path, 'run', change))
    with pytest.raises(UserError, match="no 'optimizer'"):
        resume(config(tmp_path, 'run', change))


def test_checkpoints_that_went_further_are_left_behind(tmp_path):
    whole, expected = train(config(tmp_path, 'run'))
    run, seen = resume(config(tmp_path, 'run'), checkpoint(whole, 'iter_5'))
    assert_continues(seen, expected, 5)
    moved = sorted(p.name for p in (tmp_path / 'run/old-1').iterdir())
    assert moved == ['iter_6.pth', 'iter_7.pth', 'iter_8.pth']
    assert 'iter_6.pth, iter_7.pth, iter_8.pth did not lead to' in log_of(run)
    assert checkpoint(whole, 'iter_5').exists()


def test_checkpoints_of_another_folder_stay_where_they_are(tmp_path):
    whole, _ = train(config(tmp_path, 'whole'))
    resume(config(tmp_path, 'resumed'), checkpoint(whole, 'iter_5'))
    assert len(list(Path(whole.work_dir).glob('iter_*.pth'))) == 8


def test_a_scheduler_that_watches_a_metric_keeps_what_it_has_seen(tmp_path):
    plateau = dict(
        type='ReduceOnPlateauLR', monitor='score', patience=0, rule='less'
    )
    common = dict(param_scheduler=[plateau])
    cfg = config(tmp_path, 'whole', common)
    scores = iter([1.0, 2.0, 3.0, 4.0])

    def validate(runner):
        (scheduler,) = runner.param_schedulers
        scheduler.step(dict(score=next(scores)))

    hooks = [At(n, validate) for n in (2, 4)]
    whole, expected = train(cfg, *map(copy.copy, hooks))
    run, seen = resume(
        config(tmp_path, 'resumed', common), checkpoint(whole, 'iter_5')
    )
    assert run.param_schedulers[0].best == 1.0
    for now, group in seen.groups.items():
        assert group == expected.groups[now]
        assert group[0]['lr'] == pytest.approx(0.01)
