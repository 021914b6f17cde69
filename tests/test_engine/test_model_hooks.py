"""The hooks that connect PixCon to a Runner, in real runs of a Runner."""

import pytest
import torch
from mmengine.logging import MessageHub

from pixcon_mm.engine.hooks import monitor_hook
from pixcon_mm.engine.hooks.monitor_hook import evenly_spaced_cells
from pixcon_mm.evaluation.metrics import effective_rank
from pixcon_mm.models import PixCon
from tests.commands import scalars
from tests.test_engine.runs import config, log_of, train
from tests.test_models import tiny


def run(folder, interval=1, images=12, accumulate=1, changes=()):
    """Train the tiny model; returns the runner and its logged records."""
    hooks = dict(
        logger=dict(interval=interval),
        checkpoint=dict(interval=99),
    )
    change = dict(
        model=dict(tiny.model_config(), _delete_=True),
        train_dataloader=dict(
            dataset=dict(type='FixedViews', size=images),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(max_epochs=1),
        optim_wrapper=dict(accumulative_counts=accumulate),
        default_hooks=hooks,
    )
    torch.manual_seed(0)
    runner, _ = train(config(folder, 'run', change, *changes), recorded=False)
    return runner, scalars(folder / 'run')


@pytest.fixture
def written(monkeypatch):
    """Note the names of scalars as the message hub gets them."""
    written = []
    update = MessageHub.update_scalar

    def spy(hub, key, value, *args, **kwargs):
        written.append(key)
        assert key != 'train/loss' or isinstance(value, float)
        update(hub, key, value, *args, **kwargs)

    monkeypatch.setattr(MessageHub, 'update_scalar', spy)
    return written


@pytest.fixture
def collapse(monkeypatch):
    """Let any features count as collapsed."""
    monkeypatch.setattr(monitor_hook, 'COLLAPSE', 99)


@pytest.mark.usefixtures('collapse')
def test_schedule_queues_and_monitors(tmp_path, monkeypatch):
    """Features that count as collapsed are warned of once."""
    monkeypatch.setattr(monitor_hook, 'EARLY', 3)
    runner, records = run(tmp_path)
    assert runner.model.image_queue.count == 12
    assert len(records) == 6
    momenta = [record['mon_momentum'] for record in records]
    assert momenta[0] == pytest.approx(0.99)
    assert momenta[3] == pytest.approx(0.995)
    assert momenta == sorted(momenta)
    for name in (
        'pos_sim',
        'pos_margin',
        'neg_logsumexp',
        'overlap',
        'weight',
        'feature_std',
    ):
        values = [record[f'mon_{name}'] for record in records]
        assert len(set(values)) > 1, name
    assert log_of(runner).count('Features have collapsed') == 1


@pytest.mark.usefixtures('collapse')
def test_similar_features_of_random_weights_are_not_a_collapse(tmp_path):
    runner, records = run(tmp_path)
    assert len(records) == 6
    assert 'Features have collapsed' not in log_of(runner)


def test_accumulation_updates_once_an_optimizer_step(tmp_path, monkeypatch):
    calls = []
    update = PixCon.after_optimizer_step

    def spy(model, progress):
        calls.append((progress, len(model._pending)))
        update(model, progress)

    monkeypatch.setattr(PixCon, 'after_optimizer_step', spy)
    runner, _ = run(tmp_path, accumulate=3)
    assert calls == [(pytest.approx(2 / 6), 3), (pytest.approx(5 / 6), 3)]
    assert runner.model.image_queue.count == 12
    assert 'Features have collapsed' not in log_of(runner)


def test_values_are_read_only_when_a_line_is_logged(
    tmp_path, monkeypatch, written
):
    """Reading one is a host sync, so the other iterations must not."""
    step, losses_before = PixCon.train_step, []

    def counted(*args, **kwargs):
        losses_before.append(written.count('train/loss'))
        return step(*args, **kwargs)

    monkeypatch.setattr(PixCon, 'train_step', counted)
    run(tmp_path, images=18, interval=4)
    assert losses_before == [0, 0, 0, 0, 4, 4, 4, 4, 8]
    assert written.count('train/loss') == 9
    assert written.count('train/mon_overlap') == 3


def test_effective_rank_is_of_the_cells_of_logged_iterations(
    tmp_path, monkeypatch
):
    taken, maps = [], []

    def spy(cells):
        taken.append(cells)
        return effective_rank(cells)

    forward = PixCon.loss

    def loss(model, inputs, geometry):
        with torch.no_grad():
            # In train mode, like the model: statistics are the batch's.
            maps.append([model.backbone(view)[-1] for view in inputs])
        return forward(model, inputs, geometry)

    monkeypatch.setattr(monitor_hook, 'effective_rank', spy)
    monkeypatch.setattr(PixCon, 'loss', loss)
    runner, records = run(tmp_path, images=18, interval=4)
    assert not runner.model.neck._forward_pre_hooks
    logged = [record['mon_effective_rank'] for record in records]
    assert len(taken) == 3
    for index, cells, value in zip((3, 7), taken[:2], logged, strict=True):
        rows = [m.permute(0, 2, 3, 1).flatten(0, 2) for m in maps[index]]
        torch.testing.assert_close(cells, torch.cat(rows))
        assert value == pytest.approx(effective_rank(torch.cat(rows)))
        assert 1 < value < min(cells.shape)


def test_cells_are_evenly_spaced():
    maps = [torch.arange(12.0).view(2, 1, 2, 3), 12 + torch.arange(8.0)]
    maps[1] = maps[1].view(2, 1, 1, 4)
    assert evenly_spaced_cells(maps, 99).flatten().tolist() == [*range(20)]
    found = evenly_spaced_cells(maps, 5).flatten().tolist()
    assert found == [0, 4, 8, 12, 16]


@pytest.mark.parametrize('interval', [4, 100])
def test_losses_are_the_same_when_they_are_read_late(tmp_path, interval):
    """10 iterations in two epochs; 4 does not divide an epoch of 5."""
    names = ('loss', 'loss_image', 'loss_dense')
    kept = (*names, 'step', 'mon_feature_std')
    found = []
    for kind in ('RuntimeInfoHook', 'DeferredRuntimeInfoHook'):
        changes = dict(
            train_cfg=dict(max_epochs=2),
            default_hooks=dict(runtime_info=dict(type=kind)),
        )
        (folder := tmp_path / kind).mkdir()
        runner, records = run(folder, interval, 10, changes=[changes])
        scalars = [runner.message_hub.get_scalar(f'train/{n}') for n in names]
        histories = [scalar.data[0].tolist() for scalar in scalars]
        assert len(histories[0]) == 10
        found.append((histories, [[r[k] for k in kept] for r in records]))
    assert found[0] == found[1]
