"""A value that is not finite ends a run, with its name, place and images."""

import math
import re
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, MODELS
from mmengine.structures import BaseDataElement

from pixcon_mm.engine.hooks.runtime_info_hook import (
    HISTORY,
    MAX_SKIPPED,
    DeferredRuntimeInfoHook,
    image_files,
    read_scalars,
)
from pixcon_mm.errors import UserError
from tests import toy
from tests.commands import sentence_of
from tests.test_engine.runs import (
    ACCUMULATED,
    NEVER,
    At,
    config,
    hook,
    log_of,
    names,
    resume,
    train,
)

NAN, INF = float('nan'), float('inf')


@MODELS.register_module()
class SpoiledModel(toy.ToyModel):
    """Has a value that is not finite at chosen steps, counted from 1."""

    def __init__(self, steps=(), value=NAN, where='loss_dense'):
        super().__init__()
        self.spoiled, self.value, self.where = steps, value, where

    def forward(self, inputs, mode='loss', data_samples=None):
        losses = super().forward(inputs, mode)
        if self.steps in self.spoiled and self.where == 'gradient':
            losses['loss_dense'].register_hook(lambda g: g * self.value)
        elif self.steps in self.spoiled:
            losses[self.where] = losses[self.where] * self.value
        return losses


@DATASETS.register_module()
class NamedImages(toy.ToyImages):
    """Samples that know their files."""

    def __getitem__(self, index):
        element = BaseDataElement(
            metainfo=dict(img_path=f'images/{index}.jpg')
        )
        return dict(super().__getitem__(index), data_samples=element)


def spoiled(steps, interval=1, **options):
    return dict(
        model=dict(type='SpoiledModel', steps=list(steps), **options),
        train_dataloader=dict(dataset=dict(type='NamedImages')),
        default_hooks=dict(logger=dict(interval=interval)),
    )


def failure(cfg, *hooks):
    text = sentence_of(train, cfg, *hooks)
    assert '\n' not in text
    return text


@pytest.mark.parametrize(
    ('where', 'value'),
    [('loss_image', NAN), ('loss_dense', INF), ('gradient', -INF)],
)
def test_the_value_and_its_place_are_named(tmp_path, value, where):
    name = 'grad_norm' if where == 'gradient' else where
    seen = []

    class Files(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            samples = data_batch['data_samples']
            seen.append([sample.img_path for sample in samples])

    text = failure(
        config(tmp_path, 'run', spoiled([5], value=value, where=where)),
        Files(),
    )
    # The layers before turn it into NaN.
    value = NAN if where == 'gradient' else value
    assert f'{name} is {value} at iteration 5' in text
    assert f'images of the batch: {", ".join(seen[4])}.' in text
    assert names(tmp_path / 'run') == [f'iter_{n}.pth' for n in (1, 2, 3, 4)]
    # The part that is all right is shown too.
    other = 'loss_image' if where == 'loss_dense' else 'loss_dense'
    assert re.search(rf'\(.*{other} 0\.\d+\):', text)


@pytest.mark.parametrize('interval', [2, 3, 50])
def test_it_is_found_within_a_logging_interval(tmp_path, interval):
    seen = []
    hooks = [At(n, lambda r: seen.append(r.iter + 1)) for n in range(1, 9)]
    cfg = config(tmp_path, 'run', spoiled([1], interval), NEVER)
    # The first of them, though all that follow are not finite either.
    assert 'loss_dense is nan at iteration 1 ' in failure(cfg, *hooks)
    assert len(seen) <= min(interval, 4) + 1
    assert not names(tmp_path / 'run')


def test_it_is_found_before_a_checkpoint_is_written(tmp_path):
    """No line of the log comes in between."""
    keep = hook(max_keep_ckpts=1)
    text = failure(config(tmp_path, 'run', spoiled([3], 50), keep))
    assert 'loss_dense is nan at iteration 3' in text
    assert names(tmp_path / 'run') == ['iter_2.pth']
    run, seen = resume(config(tmp_path, 'run', spoiled([], 50), keep))
    assert list(seen.states) == [3, 4, 5, 6, 7, 8]


def test_a_value_that_is_not_a_loss_may_be_anything(tmp_path):
    class Accuracy(Hook):
        priority = 'HIGHEST'

        def after_train_iter(self, runner, *args, outputs, **kwargs):
            outputs['acc'] = torch.tensor(NAN)

    run, _ = train(config(tmp_path, 'run'), Accuracy())
    assert run.iter == 8


def test_the_norm_of_the_gradient_is_logged(tmp_path):
    expected = []

    class Norm(Hook):
        def before_train(self, runner):
            runner.optim_wrapper.optimizer.register_step_pre_hook(
                lambda optimizer, *_: expected.append(
                    torch.nn.utils.clip_grad_norm_(
                        runner.model.parameters(), INF
                    ).item()
                )
            )

    run, _ = train(config(tmp_path, 'run', ACCUMULATED), Norm())
    found = run.message_hub.get_scalar('train/grad_norm').data[0]
    assert found.tolist() == pytest.approx(expected)
    assert len(expected) == 3
    assert f'grad {expected[0]:.3g}' in log_of(run)
    # MMEngine copies all of the history at each iteration.
    lengths = [h.max_length for h in run.message_hub.log_scalars.values()]
    assert set(lengths) == {HISTORY}


def test_the_norm_before_clipping_is_logged(tmp_path):
    clip = dict(optim_wrapper=dict(clip_grad=dict(max_norm=1e-3)))
    run, _ = train(config(tmp_path, 'clipped', clip))
    (first, *_) = run.message_hub.get_scalar('train/grad_norm').data[0]
    assert first > 0.1
    text = failure(config(tmp_path, 'bad', clip, spoiled([4])))
    assert 'loss_dense is nan at iteration 4' in text


def scaled_runner(scaler=None):
    hub, lines = {}, []
    return SimpleNamespace(
        optim_wrapper=SimpleNamespace(
            loss_scaler=scaler or torch.amp.GradScaler('cpu'),
            should_update=lambda: True,
        ),
        message_hub=SimpleNamespace(
            log_scalars={},
            update_scalar=lambda n, v: hub.setdefault(n, []).append(v),
        ),
        logger=SimpleNamespace(info=lines.append),
        model=torch.nn.Linear(1, 1),
        world_size=1,
        hooks=[],
        hub=hub,
        lines=lines,
        iter=0,
    )


def feed(hook, runner, losses):
    for loss in losses:
        if math.isfinite(loss):  # else the scaler does not call the optimiser
            hook._norm = torch.tensor(2 * loss)
        hook.after_train_iter(runner, 0, outputs=dict(loss=torch.tensor(loss)))
        runner.iter += 1


def test_with_a_scaler_single_skipped_steps_are_counted():
    hook, runner = DeferredRuntimeInfoHook(), scaled_runner()
    feed(hook, runner, [1.0, NAN, 2.0, INF, INF, 3.0])
    # Averages of the log are of finite values.
    assert runner.hub == {
        'train/loss': [1.0, 2.0, 3.0],
        'train/grad_norm': [2.0, 4.0, 6.0],
    }
    assert [line.split()[0] for line in runner.lines] == ['1', '2', '3']
    assert 'skipped by the loss scaler, which is normal' in runner.lines[-1]


def test_with_a_scaler_many_skipped_steps_in_a_row_end_the_run():
    hook, runner = DeferredRuntimeInfoHook(), scaled_runner()
    for _ in range(3):
        feed(hook, runner, [NAN] * MAX_SKIPPED + [1.0])
    feed(hook, runner, [NAN] * MAX_SKIPPED)
    with pytest.raises(UserError, match=f'iteration {runner.iter + 1}'):
        feed(hook, runner, [NAN])


def test_a_scaler_that_is_off_excuses_nothing():
    scaler = torch.amp.GradScaler('cpu', enabled=False)
    hook, runner = DeferredRuntimeInfoHook(), scaled_runner(scaler)
    with pytest.raises(UserError, match='loss is nan at iteration 2'):
        feed(hook, runner, [1.0, NAN])


def test_scalars_of_all_kinds_are_read_at_once():
    tensors = [
        torch.tensor(1.5),
        torch.tensor([2.5], requires_grad=True),
        torch.tensor(3, dtype=torch.int32),
        torch.tensor(0.5, dtype=torch.bfloat16),
        0.25,
    ]
    assert read_scalars(tensors) == [1.5, 2.5, 3, 0.5, 0.25]
    assert read_scalars([]) == []


def test_files_of_a_batch():
    element = BaseDataElement(metainfo=dict(img_path='a.jpg'))
    assert image_files(dict(data_samples=[element])) == ['a.jpg']
    two_views = dict(data_samples=dict(img_path=['a.jpg', 'b.jpg']))
    assert image_files(two_views) == ['a.jpg', 'b.jpg']
    without = (BaseDataElement(),), None
    for unknown in (None, [1], *(dict(data_samples=d) for d in without)):
        assert image_files(unknown) == []


def test_many_files_are_counted(tmp_path):
    size = dict(train_dataloader=dict(batch_size=12, dataset=dict(size=24)))
    text = failure(config(tmp_path, 'run', spoiled([1]), size))
    assert text.count('.jpg') == 8
    assert text.endswith(' and 4 more.')
