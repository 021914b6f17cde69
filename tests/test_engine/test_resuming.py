"""A run continues exactly, or as its config now asks, or says why not."""

import copy
import re
from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner

from pixcon_mm.errors import UserError
from tests.commands import sentence_of
from tests.test_engine.runs import (
    ACCUMULATED,
    ITERATIONS,
    LENGTH,
    At,
    assert_continues,
    checkpoint,
    config,
    log_of,
    names,
    resume,
    train,
)

GROUPS = dict(
    optim_wrapper=dict(
        paramwise_cfg=dict(
            custom_keys=dict(norm=dict(lr_mult=0.1, decay_mult=0.0))
        )
    )
)


def schedules(epochs):
    """List schedules of a run of so many epochs."""
    iters = epochs * LENGTH
    cosine = dict(type='CosineAnnealingLR', T_max=epochs, end=epochs)
    warmup = dict(type='WarmupLR', start_factor=0.1, by_epoch=False, end=3)
    first_epoch = dict(by_epoch=True, end=1, convert_to_iter_based=True)
    steps = dict(milestones=[iters // 2, iters - 2], gamma=0.3)

    def by_iteration(kind, **options):
        return dict(type=kind, by_epoch=False, **options)

    return {
        'none': None,
        'warm-up and cosine': [dict(warmup, **first_epoch), cosine],
        'warm-up and steps': [warmup, by_iteration('MultiStepLR', **steps)],
        'cosine by iteration': [dict(cosine, convert_to_iter_based=True)],
        'power': [by_iteration('PolyLR', end=iters, power=0.9)],
        'momentum': [
            cosine,
            by_iteration('LinearMomentum', start_factor=0.5, end=iters),
        ],
    }


# Those of the recipes, and one of momentum.
COMMON = ('warm-up and cosine', 'warm-up and steps', 'momentum')
SCHEDULES = [
    pytest.param(name, marks=() if name in COMMON else pytest.mark.slow)
    for name in schedules(2)
]


def with_schedule(name, epochs=2):
    return dict(
        train_cfg=dict(max_epochs=epochs),
        param_scheduler=schedules(epochs)[name],
    )


def check_starts(tmp_path, *changes, some=range(1, 8)):
    whole, expected = train(config(tmp_path, 'whole', *changes))
    starts = [3, 6] if ACCUMULATED in changes else range(1, 8)
    assert names(whole) == [f'iter_{n}.pth' for n in (*starts, 8)]
    history = whole.message_hub.get_scalar('train/loss').data[0].tolist()
    for start in {*starts} & {*some}:
        cfg = config(tmp_path, f'from-{start}', *changes)
        run, seen = resume(cfg, checkpoint(whole, f'iter_{start}'))
        assert_continues(seen, expected, start)
        known = run.message_hub.get_scalar('train/loss').data[0]
        assert known.tolist() == history
        for words in ('now and was', 'has changed', 'stays in use'):
            assert words not in log_of(run)


@pytest.mark.parametrize('by_iteration', [False, True])
@pytest.mark.parametrize('accumulated', [False, True])
def test_any_iteration_continues_bit_for_bit(
    tmp_path, by_iteration, accumulated
):
    changes = [ITERATIONS] * by_iteration + [ACCUMULATED] * accumulated
    check_starts(tmp_path, *changes)


@pytest.mark.parametrize('name', SCHEDULES)
def test_any_schedule_continues_bit_for_bit(tmp_path, name):
    groups = [GROUPS] * (name == 'warm-up and cosine')
    check_starts(tmp_path, with_schedule(name), *groups, some=(3, 4, 6))


@pytest.mark.parametrize('name', SCHEDULES)
@pytest.mark.parametrize('other', ['longer', 'shorter', 'rate', 'none'])
def test_another_schedule_is_followed_as_if_from_the_start(
    tmp_path, name, other
):
    groups = [GROUPS] * (name == 'warm-up and steps')
    new = with_schedule(name, 3 if other == 'longer' else 2)
    old = with_schedule(name, 3 if other == 'shorter' else 2)
    if other == 'rate':
        new['optim_wrapper'] = dict(optimizer=dict(lr=0.03))
    elif other == 'none':
        old = with_schedule('none')
    whole, _ = train(config(tmp_path, 'whole', old, *groups))
    _, expected = train(config(tmp_path, 'expected', new, *groups))
    for start in (3, 5):
        cfg = config(tmp_path, f'from-{start}', new, *groups)
        run, seen = resume(cfg, checkpoint(whole, f'iter_{start}'))
        assert list(seen.groups) == list(expected.groups)[start:]
        for now, group in seen.groups.items():
            assert group == expected.groups[now], (start, now)
    if name != 'none':
        log = log_of(run)
        assert 'The schedule has changed, and that of the config' in log
        changed = 'initial_lr is 0.03 now and was 0.1.' in log
        assert changed == (other == 'rate')


def test_settings_of_the_optimiser_are_the_configs(tmp_path):
    whole, _ = train(config(tmp_path, 'whole'))
    wanted = dict(weight_decay=0.5, momentum=0.3, foreach=False)
    new = dict(optim_wrapper=dict(optimizer=wanted))
    cfg = config(tmp_path, 'resumed', new)
    run, seen = resume(cfg, checkpoint(whole, 'iter_4'))
    (group,) = run.optim_wrapper.param_groups
    assert {name: group[name] for name in wanted} == wanted
    log = log_of(run)
    assert 'weight_decay is 0.5 now and was 0.01.' in log
    assert 'momentum is 0.3 now and was 0.9.' in log
    # The choice of a kernel is not a setting of the training.
    assert 'foreach is' not in log
    assert list(seen.states) == [5, 6, 7, 8]


@pytest.mark.parametrize('batch', [2, 8])
def test_another_batch_keeps_the_share_of_the_epoch(tmp_path, batch):
    """4 iterations of 4 images become 8 of 2, or 2 of 8."""

    def cfg(name, batch):
        loader = dict(batch_size=batch, dataset=dict(size=16))
        schedule = with_schedule('cosine by iteration')
        return config(tmp_path, name, dict(train_dataloader=loader), schedule)

    whole, expected = train(cfg('whole', 4))
    _, straight = train(cfg('straight', batch))
    order = torch.cat([expected.images[n] for n in range(1, 9)])
    for start in (2, 6):
        path = checkpoint(whole, f'iter_{start}')
        run, seen = resume(cfg(f'from-{start}', batch), path)
        first = start * 4 // batch
        assert list(seen.images) == [*range(first + 1, 32 // batch + 1)]
        # The images that are left, in the same order.
        images = torch.cat([*seen.images.values()])
        assert torch.equal(images, order[start * 4 :])
        for now, group in seen.groups.items():
            assert group == straight.groups[now]
        log = log_of(run)
        assert f'The total batch is {batch} now and was 4.' in log
        assert f'An epoch has {16 // batch} iterations now and had 4' in log


@pytest.mark.parametrize(
    ('before', 'now', 'accumulate'), [(2, 4, 1), (4, 2, 2)]
)
def test_another_batch_of_a_run_in_iterations(
    tmp_path, before, now, accumulate
):
    """With accumulation the total stays, but the run sees fewer images."""

    def cfg(name, batch, **options):
        loader = dict(batch_size=batch)
        change = dict(train_dataloader=loader, optim_wrapper=options)
        return config(tmp_path, name, ITERATIONS, change)

    whole, _ = train(cfg('whole', before))
    cfg = cfg('resumed', now, accumulative_counts=accumulate)
    run, seen = resume(cfg, checkpoint(whole, 'iter_4'))
    assert list(seen.images) == [5, 6, 7, 8]
    log = log_of(run)
    assert (
        f'An iteration has {now} images now and had {before}: the run '
        'continues at iteration 4 of 8.'
    ) in log
    same_total = accumulate == 2
    assert ('The total batch is 4 now and was 2.' in log) != same_total
    words = '8 in all with 4 steps of the optimiser; total batch 4'
    assert (words in log) == same_total
    assert 'An epoch has' not in log


def test_lines_count_from_the_start_of_the_epoch(tmp_path):
    whole, _ = train(config(tmp_path, 'whole'))
    run, _ = resume(config(tmp_path, 'resumed'), checkpoint(whole, 'iter_2'))
    places = re.findall(r'epoch (\d)/2 \[(\d)/4\]', log_of(run))
    assert places == [('1', '3'), ('1', '4')] + [('2', n) for n in '1234']


def edited(path, edit):
    """Copy a checkpoint with something changed."""
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
    assert 'The number of processes is 1 now and was 2.' in log
    assert 'The total batch is 2 now and was 4.' in log


def drop(content):
    del content['state_dict']['norm.running_var']


def reshape(content):
    content['state_dict']['linear.weight'] = torch.zeros(5, 4)


def add(content):
    content['state_dict']['head.weight'] = torch.zeros(1)


def name_classes(content):
    content['meta']['dataset_meta'] = dict(classes=('cat', 'dog'))


ADAM = dict(optimizer=dict(_delete_=True, type='Adam', lr=0.1))


@pytest.mark.parametrize(
    ('edit', 'change', 'words'),
    [
        (
            None,
            dict(optim_wrapper=ADAM),
            'it has the state of SGD for 1 group of parameters, and the run '
            'uses Adam for 1',
        ),
        (None, GROUPS, 'SGD for 1 group of parameters, and the run uses SGD'),
        (drop, {}, 'not in the file, the first is norm.running_var'),
        (reshape, {}, 'linear.weight (5x4, and 3x4 in the model)'),
        (add, {}, 'no place for 1 tensor of the file, the first is head'),
        (
            name_classes,
            dict(classes=('dog', 'cat')),
            'the same names in another order',
        ),
    ],
)
def test_changes_that_cannot_be_resumed_are_refused(
    tmp_path, edit, change, words
):
    whole, _ = train(config(tmp_path, 'whole'))
    path = checkpoint(whole, 'iter_4')
    path = edited(path, edit) if edit else path
    text = sentence_of(resume, config(tmp_path, 'refused', change), path)
    assert words in text
    assert str(path) in text
    assert '\n' not in text


def test_a_run_does_not_go_on_from_averages_without_their_hook(tmp_path):
    averages = dict(custom_hooks=[dict(type='EMAHook')])
    runner, _ = train(config(tmp_path, 'run', averages))
    text = sentence_of(resume, config(tmp_path, 'run'))
    assert 'its weights are averages of an EMAHook, and the config' in text
    resume(config(tmp_path, 'run', averages))


def test_a_run_in_iterations_continues_in_epochs(tmp_path):
    whole, _ = train(config(tmp_path, 'whole', ITERATIONS))
    path = checkpoint(whole, 'iter_6')
    run, seen = resume(config(tmp_path, 'resumed'), path)
    assert [*seen.images] == [7, 8]
    assert 'resumed epoch 1, iter 6' in log_of(run)


def test_the_implementation_is_that_of_the_config(tmp_path, monkeypatch):
    """PyTorch puts counts of steps on the device that this one needs."""
    whole, expected = train(
        config(tmp_path, 'whole', dict(optim_wrapper=ADAM))
    )
    given, load = [], torch.optim.Optimizer.load_state_dict

    def spy(self, state):
        given.append(state['param_groups'][0]['fused'])
        load(self, state)

    monkeypatch.setattr(torch.optim.Optimizer, 'load_state_dict', spy)
    fused = dict(ADAM['optimizer'], fused=True)
    cfg = config(
        tmp_path, 'resumed', dict(optim_wrapper=dict(optimizer=fused))
    )
    _, seen = resume(cfg, checkpoint(whole, 'iter_4'))
    assert given == [True]
    # Some gradients before a batch norm are rounding noise, which Adam scales
    # up to steps of the learning rate, 0.1.
    torch.testing.assert_close(
        seen.states[8], expected.states[8], rtol=0, atol=1e-3
    )


@pytest.mark.parametrize('name', ['gone.pth', 'https://host/epoch_1.pth'])
def test_a_path_that_is_not_a_local_file_is_refused(tmp_path, name):
    with pytest.raises(UserError, match='There is no checkpoint'):
        resume(config(tmp_path, 'run'), name)


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
        torch.testing.assert_close(seen.states[now], expected.states[now])


def test_a_checkpoint_of_mmengines_runner_starts_new_runs_only(tmp_path):
    stock = dict(checkpoint=dict(type='CheckpointHook'))
    stock['runtime_info'] = dict(type='RuntimeInfoHook')
    cfg = config(tmp_path, 'stock', dict(default_hooks=stock))
    runner = Runner.from_cfg(cfg)
    runner.train()
    path = checkpoint(runner, 'iter_4')
    with pytest.raises(
        UserError, match="MMEngine's own Runner.* --pretrained"
    ):
        resume(config(tmp_path, 'resumed'), path)


def test_a_damaged_newest_checkpoint_is_skipped(tmp_path):
    whole, expected = train(config(tmp_path, 'run'))
    newest, cut = checkpoint(whole, 'iter_8'), checkpoint(whole, 'iter_7')
    data = bytearray(newest.read_bytes())
    # One bit of a weight.
    weight = whole.model.linear.weight.detach().numpy().tobytes()
    data[data.index(weight)] ^= 1
    newest.write_bytes(data)
    cut.write_bytes(cut.read_bytes()[:-100])
    run, seen = resume(config(tmp_path, 'run'))
    assert_continues(seen, expected, 6)
    for words in ('iter_8.pth is', 'iter_7.pth is', 'from iter_6.pth.'):
        assert words in log_of(run)


def test_a_run_with_only_damaged_checkpoints_does_not_start_over(tmp_path):
    whole, _ = train(config(tmp_path, 'run'))
    for path in Path(whole.work_dir).glob('*.pth'):
        path.write_bytes(path.read_bytes()[:500])
    before = names(whole)
    with pytest.raises(UserError, match='None of the 8 .* --overwrite'):
        resume(config(tmp_path, 'run'))
    assert names(whole) == before


def test_a_named_one_that_is_damaged_is_not_replaced_by_another(tmp_path):
    whole, _ = train(config(tmp_path, 'run'))
    path = checkpoint(whole, 'iter_8')
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match='iter_8.pth is .* damaged'):
        resume(config(tmp_path, 'run'), path)


def test_later_checkpoints_are_moved_aside(tmp_path):
    whole, expected = train(config(tmp_path, 'run'))
    run, seen = resume(config(tmp_path, 'run'), checkpoint(whole, 'iter_5'))
    assert_continues(seen, expected, 5)
    further = ['iter_6.pth', 'iter_7.pth', 'iter_8.pth']
    assert names(tmp_path / 'run/old-1') == further
    assert f'not continue {", ".join(further)}: moved' in log_of(run)
    # Those of another folder stay where they are.
    before = names(run)
    resume(config(tmp_path, 'other'), checkpoint(whole, 'iter_5'))
    assert names(run) == before


def test_a_scheduler_that_watches_a_metric_keeps_what_it_has_seen(tmp_path):
    plateau = dict(
        type='ReduceOnPlateauLR', monitor='score', patience=0, rule='less'
    )
    common = dict(param_scheduler=[plateau])
    scores = iter([1.0, 2.0, 3.0, 4.0])

    def validate(runner):
        (scheduler,) = runner.param_schedulers
        scheduler.step(dict(score=next(scores)))

    hooks = [At(n, validate) for n in (2, 4)]
    cfg = config(tmp_path, 'whole', common)
    whole, expected = train(cfg, *map(copy.copy, hooks))
    run, seen = resume(
        config(tmp_path, 'resumed', common), checkpoint(whole, 'iter_5')
    )
    assert run.param_schedulers[0].best == 1.0
    assert 'The schedule watches a metric' in log_of(run)
    for now, group in seen.groups.items():
        assert group == expected.groups[now]
        assert group[0]['lr'] == pytest.approx(0.01)
