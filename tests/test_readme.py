"""Every command of the README is one that works."""

import importlib.util
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / 'README.md').read_text()
BLOCKS = re.findall(r'```bash\n(.*?)```', README, flags=re.S)
COMMANDS = [
    shlex.split(line, comments=True)
    for block in BLOCKS
    for line in block.replace('\\\n', ' ').splitlines()
    if shlex.split(line, comments=True)
]
TRAIN = [c for c in COMMANDS if c[1:2] == ['tools/dist_train.sh']]


@pytest.fixture(scope='module')
def train():
    """tools/train.py as a module."""
    spec = importlib.util.spec_from_file_location(
        'train', ROOT / 'tools/train.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_other_kind_of_command():
    known = {'make', 'bash', 'python', 'pip', 'source'}
    assert {command[0] for command in COMMANDS} <= known
    assert len(TRAIN) >= 5


@pytest.mark.parametrize('target', [c[1] for c in COMMANDS if c[0] == 'make'])
def test_make_targets_exist(target):
    plan = subprocess.run(
        ['make', '--dry-run', target], cwd=ROOT, capture_output=True, text=True
    )
    assert plan.returncode == 0, plan.stderr
    assert 'python' in plan.stdout


@pytest.mark.parametrize('command', TRAIN, ids=' '.join)
def test_training_commands_are_understood(
    command, train, monkeypatch, tmp_path
):
    """dist_train.sh passes them on, and train.py takes every option."""
    fake = tmp_path / 'python'
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    launched = subprocess.run(
        command,
        cwd=ROOT,
        env=dict(os.environ, PYTHON=str(fake)),
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    assert command[3] == launched[launched.index('--nproc-per-node') + 1]
    tool = str(ROOT / 'tools/train.py')
    monkeypatch.setenv('WORLD_SIZE', command[3])
    monkeypatch.chdir(ROOT)
    args = train.parse_args(launched[launched.index(tool) + 1 :])
    cfg = train.prepare(args)
    assert cfg.launcher == 'pytorch'
    if args.cfg_options:
        root = args.cfg_options['data_root']
        assert cfg.train_dataloader.dataset.data_root == root
    if args.total_batch:
        batch = cfg.train_dataloader.batch_size * int(command[3])
        assert batch == args.total_batch
    assert bool(cfg.resume) == ('--resume' in command)


@pytest.mark.parametrize(
    'tool', sorted({c[1] for c in COMMANDS if c[0] == 'python'})
)
def test_tools_exist(tool):
    assert (ROOT / tool).is_file()


def test_every_recipe_is_listed():
    listed = re.findall(r'^\| `(\S+\.py)` \|', README, flags=re.M)
    recipes = [path.name for path in (ROOT / 'configs').glob('pretrain/*.py')]
    assert sorted(listed) == sorted(recipes)


def test_links_lead_somewhere():
    links = re.findall(r'\]\((?!https?:)([^)]+)\)', README)
    assert len(links) > 5
    for link in links:
        assert (ROOT / link).exists(), link


def test_python_example_runs(tmp_path, monkeypatch):
    """With a checkpoint of the main recipe's model, as a run writes it."""
    (example,) = re.findall(r'```python\n(.*?)```', README, flags=re.S)
    cfg = Config.fromfile(ROOT / 'configs/pretrain/pixcon_r50_coco.py')
    model = MODELS.build(dict(cfg.model, queue_len=8))
    path = re.search(r"'(work_dirs/\S+\.pth)'", example)[1]
    (tmp_path / path).parent.mkdir(parents=True)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / path)
    monkeypatch.chdir(tmp_path)
    exec(example, {})
