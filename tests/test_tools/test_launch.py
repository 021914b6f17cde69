"""What the tools share: loading, options, and the scripts that start them."""

import argparse
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

from pixcon_mm import launch
from pixcon_mm.engine import PixConRunner
from pixcon_mm.errors import UserError
from tests import toy

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _framework_state():
    with toy.framework_state():
        yield


def options(*argv):
    parser = argparse.ArgumentParser()
    parser.add_argument('config')
    return launch.parse(parser, ['c.py', *argv])


def run_script(tmp_path, name, program, *arguments, **env):
    """Words that a script hands to a program, which is not run."""
    fake = tmp_path / program
    fake.write_text(
        '#!/bin/sh\nprintf "%s\\n" "$@" "MASTER_PORT=$MASTER_PORT"\n'
    )
    fake.chmod(0o755)
    ours = ('NNODES', 'NODE_RANK', 'MASTER_ADDR', 'MASTER_PORT', 'PORT')
    rest = {k: v for k, v in os.environ.items() if k not in ours}
    result = subprocess.run(
        ['bash', ROOT / 'tools' / name, *arguments],
        env={
            **rest,
            'PATH': f'{tmp_path}:{os.environ["PATH"]}',
            'PYTHON': str(fake) if program == 'python' else sys.executable,
            **env,
        },
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_dist_test_hands_on_its_arguments(tmp_path):
    words = run_script(
        *(tmp_path, 'dist_test.sh', 'python'),
        *('a b.py', 'c d.pth', '4', '--out', 'm.json'),
    )
    start = words.index('--standalone')
    assert words[start:-1] == [
        *('--standalone', '--nproc-per-node', '4', f'{ROOT}/tools/test.py'),
        *('--launcher', 'pytorch', 'a b.py', 'c d.pth', '--out', 'm.json'),
    ]


@pytest.mark.parametrize(
    ('env', 'port'), [({}, '29500'), (dict(PORT='29511'), '29511')]
)
def test_slurm_meets_at_the_port(tmp_path, env, port):
    words = run_script(
        *(tmp_path, 'slurm_train.sh', 'srun'),
        *('part', 'job', 'c.py', '2'),
        **env,
    )
    assert words[-1] == f'MASTER_PORT={port}'


def test_importing_the_project_loads_no_launcher():
    code = (
        'import sys, pixcon_mm\n'
        "heavy = ('pixcon_mm.cli', 'mmpretrain', 'mmdet', 'mmseg')\n"
        'print([name for name in heavy if name in sys.modules])'
    )
    shown = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True
    )
    assert shown.stdout == '[]\n', shown.stderr


@pytest.mark.parametrize(
    ('argv', 'workers', 'cuda', 'expected'),
    [
        ([], 2, True, (True, True)),
        ([], 2, False, (False, True)),
        ([], 0, True, (True, False)),
        (['--no-pin-memory'], 2, True, (False, True)),
        (['--no-persistent-workers'], 2, True, (True, False)),
    ],
)
def test_loaders_fit_the_machine(monkeypatch, argv, workers, cuda, expected):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: cuda)
    loader = dict(num_workers=workers)
    launch.fit_loader(loader, options(*argv))
    assert (loader['pin_memory'], loader['persistent_workers']) == expected


def test_own_choices_of_a_loader_stay(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    loader = dict(
        num_workers=2, pin_memory=False, persistent_workers=False, timeout=5
    )
    before = dict(loader)
    launch.fit_loader(loader, options())
    assert loader == before


@pytest.mark.parametrize(
    ('given', 'line', 'expected'),
    [
        (['--work-dir', 'mine'], "work_dir = 'theirs'", 'mine'),
        ([], "work_dir = 'theirs'", 'theirs'),
        ([], '', 'default'),
    ],
)
def test_work_dir(tmp_path, given, line, expected):
    path = tmp_path / 'c.py'
    path.write_text(line + '\n')
    args = options(*given)
    args.config = str(path)
    assert launch.prepare_config(args, 'default').work_dir == expected


RECIPE = ROOT / 'configs/pretrain/pixcon_r50_coco.py'


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
    launch.set_epochs(cfg, epochs)
    assert cfg.train_cfg.max_epochs == epochs
    start = cfg.param_scheduler[0].start_factor
    for iteration, rate in enumerate(rates(cfg, length)):
        done = min(iteration / (warmup * length), 1)
        cosine = (1 + math.cos(math.pi * (iteration // length) / epochs)) / 2
        expected = cosine * (1 - (1 - done) * (1 - start))
        assert rate == pytest.approx(expected, rel=1e-6), iteration


def changed(epochs, *schedulers, old=100):
    cfg = Config(
        dict(
            train_cfg=dict(max_epochs=old),
            param_scheduler=[dict(s) for s in schedulers],
        )
    )
    launch.set_epochs(cfg, epochs)
    return [dict(s) for s in cfg.param_scheduler]


def test_parts_of_a_schedule_stay_joined():
    warmup = dict(type='LinearLR', begin=0, end=10)
    cosine = dict(type='CosineAnnealingLR', begin=10, end=100, T_max=90)
    assert changed(50, warmup, cosine) == [
        dict(warmup, end=5),
        dict(cosine, begin=5, end=50, T_max=45),
    ]
    assert changed(200, warmup, cosine) == [
        warmup,
        dict(cosine, end=200, T_max=190),
    ]
    # One epoch has no room for more than its warm-up.
    assert changed(1, warmup, cosine) == [dict(warmup, end=1)]


def test_milestones_and_endless_parts_are_stretched():
    steps = dict(type='MultiStepLR', milestones=[60, 80], gamma=0.1)
    endless = dict(type='CosineAnnealingLR', T_max=100)
    assert changed(200, steps, endless) == [
        dict(steps, milestones=[120, 160]),
        dict(endless, T_max=200),
    ]
    by_iteration = dict(
        type='MultiStepLR', by_epoch=False, milestones=[60], end=100
    )
    assert changed(200, by_iteration) == [by_iteration]


def test_a_single_schedule_is_stretched_too():
    cfg = Config(
        dict(
            train_cfg=dict(max_epochs=10),
            param_scheduler=dict(type='CosineAnnealingLR', T_max=10, end=10),
        )
    )
    launch.set_epochs(cfg, 30)
    (scheduler,) = cfg.param_scheduler
    assert (scheduler.T_max, scheduler.end) == (30, 30)


def test_lengths_that_cannot_be_are_sentences():
    cfg = Config(dict(train_cfg=dict(max_iters=10, by_epoch=False)))
    with pytest.raises(UserError, match='counts iterations'):
        launch.set_epochs(cfg, 3)
    cfg = Config(dict(train_cfg=dict(max_epochs=10)))
    with pytest.raises(UserError, match='at least one epoch'):
        launch.set_epochs(cfg, 0)


@pytest.mark.parametrize(
    ('launcher', 'variable'),
    [
        ('pytorch', 'RANK'),
        ('slurm', 'SLURM_PROCID'),
        ('mpi', 'OMPI_COMM_WORLD_RANK'),
    ],
)
def test_each_launcher_numbers_its_processes(monkeypatch, launcher, variable):
    """One of them claims the work directory for all."""
    monkeypatch.setenv(variable, '3')
    assert launch.rank(launcher) == 3
    assert launch.rank('none') == 0
    monkeypatch.delenv(variable)
    assert launch.rank(launcher) == 0


def test_runner_of_the_config(monkeypatch):
    chosen = []
    monkeypatch.setattr(launch.RUNNERS, 'build', chosen.append)
    monkeypatch.setattr(PixConRunner, 'from_cfg', lambda cfg: 'ours')
    cfg = Config(dict(a=1))
    assert launch.build_runner(cfg) == 'ours'
    cfg.runner_type = 'Theirs'
    launch.build_runner(cfg)
    assert chosen == [cfg]


@pytest.mark.parametrize('tool', ['train', 'test'])
@pytest.mark.parametrize('chosen', [None, 'ACTIVE'])
def test_waiting_threads_leave_the_cores_to_others(tool, chosen):
    """OpenMP itself says what it was told before its threads started."""
    env = {k: v for k, v in os.environ.items() if k != 'OMP_WAIT_POLICY'}
    if chosen:
        env['OMP_WAIT_POLICY'] = chosen
    said = subprocess.run(
        [sys.executable, ROOT / f'tools/{tool}.py', '--help'],
        env=dict(env, OMP_DISPLAY_ENV='true'),
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    assert f"OMP_WAIT_POLICY = '{chosen or 'PASSIVE'}'" in said
