"""Parts that the tools share: options, loaders, lengths of runs."""

import argparse
import logging
import math
import os
import sys
import warnings

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

from pixcon_mm import cli
from pixcon_mm.engine import PixConRunner
from pixcon_mm.errors import UserError
from tests import ROOT

RECIPE = ROOT / 'configs/pretrain/pixcon_r50_coco.py'


def options(*words):
    parser = argparse.ArgumentParser()
    parser.add_argument('config')
    return cli.parse(parser, ['c.py', *words])


def test_spaces_around_the_sign_of_equality(capsys):
    with pytest.raises(SystemExit):
        options('--cfg-options', 'data_root', '=', '/x')
    assert 'key=value, without spaces' in capsys.readouterr().err


@pytest.mark.parametrize('spelling', ['--local_rank', '--local-rank'])
def test_both_spellings_of_the_rank(monkeypatch, spelling):
    monkeypatch.delenv('LOCAL_RANK', raising=False)
    options(f'{spelling}=3')
    assert os.environ.pop('LOCAL_RANK') == '3'


@pytest.mark.parametrize(
    ('workers', 'cuda', 'pinned', 'persistent'),
    [
        (2, True, True, True),
        (2, False, False, True),
        (0, True, True, False),
    ],
)
def test_loaders_fit_the_machine(
    monkeypatch, workers, cuda, pinned, persistent
):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: cuda)
    loader = dict(num_workers=workers)
    cli.fit_loader(loader)
    assert loader.pop('timeout', None) == (540 if workers else None)
    assert loader == dict(
        num_workers=workers, pin_memory=pinned, persistent_workers=persistent
    )
    own = dict(
        num_workers=2, pin_memory=False, persistent_workers=False, timeout=5
    )
    loader = dict(own)
    cli.fit_loader(loader)
    assert loader == own


@pytest.mark.parametrize(
    ('words', 'line', 'expected'),
    [
        (['--work-dir', 'mine'], "work_dir = 'theirs'", 'mine'),
        ([], "work_dir = 'theirs'", 'theirs'),
        ([], '', 'default'),
    ],
)
def test_work_dir(tmp_path, words, line, expected):
    path = tmp_path / 'c.py'
    path.write_text(line + '\n')
    args = options(*words)
    args.config = str(path)
    assert cli.prepare_config(args, 'default').work_dir == expected


def test_quiet_keeps_chatter_back_and_leaves_no_trace(capfd):
    filters, disabled = list(warnings.filters), logging.root.manager.disable
    with cli.quiet():
        print('chatter')
        warnings.warn('chatter', stacklevel=1)
        logging.warning('chatter')
        print('kept', file=sys.stderr)
    assert capfd.readouterr() == ('', 'kept\n')
    assert list(warnings.filters) == filters
    assert logging.root.manager.disable == disabled


def rates(cfg, length):
    """Learning rate of each iteration of a run, as MMEngine's hook sets it."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedulers = []
    for scheduler in map(dict, cfg.param_scheduler):
        is_converted = scheduler.pop('convert_to_iter_based', False)
        cls = PARAM_SCHEDULERS.get(scheduler.pop('type'))
        schedulers.append(
            cls.build_iter_from_epoch(
                optimizer, **scheduler, epoch_length=length
            )
            if is_converted
            else cls(optimizer, **scheduler)
        )
    found = []
    for _ in range(cfg.train_cfg.max_epochs):
        for _ in range(length):
            found.append(optimizer.param_groups[0]['lr'])
            optimizer.step()
            for scheduler in schedulers:
                if not scheduler.by_epoch:
                    scheduler.step()
        for scheduler in schedulers:
            if scheduler.by_epoch:
                scheduler.step()
    return found


@pytest.mark.parametrize(
    ('epochs', 'warmup'),
    [(800, 4), (1600, 4), (200, 4), (40, 4), (20, 2), (9, 1), (1, 1)],
)
def test_another_length_of_the_main_recipe(epochs, warmup):
    """Warm-up to the full rate, and a cosine to the end of the run."""
    cfg, length = Config.fromfile(RECIPE), 3
    cli.set_epochs(cfg, epochs)
    assert cfg.train_cfg.max_epochs == epochs
    start = cfg.param_scheduler[0].start_factor
    for iteration, rate in enumerate(rates(cfg, length)):
        done = min(iteration / (warmup * length), 1)
        cosine = (1 + math.cos(math.pi * (iteration // length) / epochs)) / 2
        expected = cosine * (1 - (1 - done) * (1 - start))
        assert rate == pytest.approx(expected, rel=1e-6), iteration


WARMUP = dict(type='LinearLR', begin=0, end=10)
COSINE = dict(type='CosineAnnealingLR', begin=10, end=100, T_max=90)
STEPS = dict(type='MultiStepLR', milestones=[60, 80], gamma=0.1)
ENDLESS = dict(type='CosineAnnealingLR', T_max=100)
BY_ITERATION = dict(
    type='MultiStepLR', by_epoch=False, milestones=[60], end=100
)


@pytest.mark.parametrize(
    ('epochs', 'before', 'after'),
    [
        (
            50,
            [WARMUP, COSINE],
            [dict(WARMUP, end=5), dict(COSINE, begin=5, end=50, T_max=45)],
        ),
        (200, [WARMUP, COSINE], [WARMUP, dict(COSINE, end=200, T_max=190)]),
        # One epoch has no room for more than its warm-up.
        (1, [WARMUP, COSINE], [dict(WARMUP, end=1)]),
        (
            200,
            [STEPS, ENDLESS],
            [dict(STEPS, milestones=[120, 160]), dict(ENDLESS, T_max=200)],
        ),
        (200, [BY_ITERATION], [BY_ITERATION]),
        (30, dict(ENDLESS, end=100), [dict(ENDLESS, T_max=30, end=30)]),
    ],
)
def test_parts_of_a_schedule_stay_joined(epochs, before, after):
    cfg = Config(dict(train_cfg=dict(max_epochs=100), param_scheduler=before))
    cli.set_epochs(cfg, epochs)
    assert cfg.param_scheduler == after


def test_lengths_that_cannot_be_are_sentences():
    cfg = Config(dict(train_cfg=dict(max_iters=10, by_epoch=False)))
    with pytest.raises(UserError, match='counts iterations'):
        cli.set_epochs(cfg, 3)
    cfg = Config(dict(train_cfg=dict(max_epochs=10)))
    with pytest.raises(UserError, match='at least one epoch'):
        cli.set_epochs(cfg, 0)


@pytest.mark.parametrize('launcher', ['pytorch', 'slurm', 'mpi'])
def test_each_launcher_numbers_its_processes(monkeypatch, launcher):
    for name, value in zip(cli.LAUNCHERS[launcher], '38', strict=True):
        monkeypatch.setenv(name, value)
    assert cli.rank_and_size(launcher) == (3, 8)
    assert cli.rank_and_size('none') == (0, 1)


def test_runner_of_the_config(monkeypatch):
    monkeypatch.setattr(cli.RUNNERS, 'build', lambda cfg: 'theirs')
    monkeypatch.setattr(PixConRunner, 'from_cfg', lambda cfg: 'ours')
    assert cli.build_runner(Config(dict(a=1))) == 'ours'
    assert cli.build_runner(Config(dict(runner_type='Theirs'))) == 'theirs'
