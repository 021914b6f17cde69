"""Parts that the tools share: options, loaders, lengths of runs."""

import argparse
import logging
import os
import sys
import warnings

import pytest
import torch
from mmengine.config import Config

from pixcon_mm import cli
from pixcon_mm.engine import PixConRunner
from pixcon_mm.errors import UserError


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


def test_windows_with_gaps_are_refused():
    windows = dict(mode='slide', crop_size=(769, 512), stride=(513, 512))
    cfg = Config(dict(model=dict(test_cfg=windows)))
    cli.check_windows(cfg)
    # The option `crop_size` changes the first and not the second.
    cfg.model.test_cfg.crop_size = (512, 512)
    with pytest.raises(UserError, match=r'choose a smaller .*\.stride'):
        cli.check_windows(cfg)
    cfg.model.test_cfg.mode = 'whole'  # it has no windows
    cli.check_windows(cfg)


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


def test_a_run_in_iterations_has_no_epochs():
    cfg = Config(dict(train_cfg=dict(max_iters=10, by_epoch=False)))
    with pytest.raises(UserError, match='counts iterations'):
        cli.set_epochs(cfg, 3)


@pytest.mark.parametrize('launcher', ['pytorch', 'slurm', 'mpi'])
def test_each_launcher_numbers_its_processes(monkeypatch, launcher):
    monkeypatch.delenv('LOCAL_RANK', raising=False)
    for name, value in zip(cli.LAUNCHERS[launcher], '381', strict=True):
        monkeypatch.setenv(name, value)
    assert cli.rank_and_size(launcher) == (3, 8)
    assert cli.rank_and_size('none') == (0, 1)
    # Errors are shown by the first process of a machine.
    options('--launcher', launcher)
    assert os.environ.pop('LOCAL_RANK') == '1'


def test_runner_of_the_config(monkeypatch):
    monkeypatch.setattr(cli.RUNNERS, 'build', lambda cfg: 'theirs')
    monkeypatch.setattr(PixConRunner, 'from_cfg', lambda cfg: 'ours')
    assert cli.build_runner(Config(dict(a=1))) == 'ours'
    assert cli.build_runner(Config(dict(runner_type='Theirs'))) == 'theirs'
