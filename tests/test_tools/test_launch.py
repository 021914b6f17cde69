"""What the tools share: loading, options, and the scripts that start them."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from pixcon_mm import launch
from pixcon_mm.engine import PixConRunner
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
        "heavy = ('pixcon_mm.launch', 'mmpretrain', 'mmdet', 'mmseg')\n"
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
    loader = dict(num_workers=2, pin_memory=False, persistent_workers=False)
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
