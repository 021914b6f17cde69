"""Every command of the README is one that works."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS

from pixcon_mm.config import load_config
from reproduction.cli import parse_args
from reproduction.plan import read_plan
from reproduction.runs import runs_of
from tests import toy

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
TEST = [c for c in COMMANDS if c[1:2] == ['tools/dist_test.sh']]
REPRODUCE = [c for c in COMMANDS if c[1:2] == ['tools/reproduce.py']]
EXPORT = [c for c in COMMANDS if c[1:2] == ['tools/export_backbone.py']]


@pytest.fixture(autouse=True)
def _framework_state():
    with toy.framework_state():
        yield


def module_of(tool):
    """A tool as a module."""
    spec = importlib.util.spec_from_file_location(
        f'readme_{tool}', ROOT / f'tools/{tool}.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def launch(command, tmp_path):
    """Arguments that a launcher gives to torchrun, without running it."""
    fake = tmp_path / 'python'
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    return subprocess.run(
        command,
        cwd=ROOT,
        env=dict(os.environ, PYTHON=str(fake)),
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()


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
def test_training_commands_are_understood(command, monkeypatch, tmp_path):
    """dist_train.sh passes them on, and train.py takes every option."""
    launched = launch(command, tmp_path)
    assert command[3] == launched[launched.index('--nproc-per-node') + 1]
    tool = str(ROOT / 'tools/train.py')
    monkeypatch.setenv('WORLD_SIZE', command[3])
    monkeypatch.chdir(ROOT)
    train = module_of('train')
    args = train.parse_args(launched[launched.index(tool) + 1 :])
    if args.pretrained not in (None, 'torchvision', 'none'):
        assert args.pretrained == 'work_dirs/pixcon_r50_coco/epoch_800.pth'
        args.pretrained = str(tmp_path / 'python')
    cfg = train.prepare(args)
    if args.pretrained:
        assert cfg.default_hooks.pretrained.source == args.pretrained
    assert cfg.launcher == 'pytorch'
    if args.cfg_options:
        root = args.cfg_options['data_root']
        assert cfg.train_dataloader.dataset.data_root == root
    if args.total_batch:
        batch = cfg.train_dataloader.batch_size * int(command[3])
        assert batch == args.total_batch
    assert bool(cfg.resume) == ('--resume' in command)


@pytest.mark.parametrize('command', TEST, ids=' '.join)
def test_testing_commands_are_understood(command, monkeypatch, tmp_path):
    launched = launch(command, tmp_path)
    assert command[4] == launched[launched.index('--nproc-per-node') + 1]
    tool = str(ROOT / 'tools/test.py')
    monkeypatch.chdir(ROOT)
    test = module_of('test')
    args = test.parse_args(launched[launched.index(tool) + 1 :])
    assert [args.config, args.checkpoint] == command[2:4]
    cfg = test.prepare(args)
    assert cfg.launcher == 'pytorch'
    # Where training writes its last checkpoint.
    last = load_config(args.config).train_cfg.max_iters
    folder = f'work_dirs/{Path(args.config).stem}'
    assert args.checkpoint == f'{folder}/iter_{last}.pth'


@pytest.mark.parametrize('command', EXPORT, ids=' '.join)
def test_export_commands_are_understood(command, monkeypatch):
    monkeypatch.setattr(sys, 'argv', command[1:])
    args = module_of('export_backbone').parse_args()
    assert str(args.checkpoint) == 'work_dirs/pixcon_r50_coco/epoch_800.pth'


@pytest.mark.parametrize('command', REPRODUCE, ids=' '.join)
def test_commands_of_plans_are_understood(command):
    args = parse_args(command[2:])
    runs = runs_of(read_plan(ROOT / args.plan))
    assert all(pattern in runs for pattern in args.only)


def test_export_formats_are_listed():
    module = module_of('export_backbone')
    listed = re.findall(r'^\| `(\w+)` \| `\.', README, flags=re.M)
    assert sorted(listed) == sorted(module.SUFFIXES)


@pytest.mark.parametrize(
    'tool', sorted({c[1] for c in COMMANDS if c[0] == 'python'})
)
def test_tools_exist(tool):
    assert (ROOT / tool).is_file()


def test_every_recipe_is_listed():
    listed = re.findall(r'^\| `(\S+\.py)` \|', README, flags=re.M)
    configs = ROOT / 'configs'
    recipes = [path.name for path in configs.glob('pretrain/*.py')]
    for task in ('detection', 'segmentation'):
        recipes += [
            f'{task}/{path.name}' for path in configs.glob(f'{task}/*.py')
        ]
    assert sorted(listed) == sorted(recipes)


def test_iterations_and_batches_are_those_of_the_configs():
    row = r'^\| `((?:det|seg)\S+\.py)` \| `(\S+)` \| (\w+) \| (\d) x (\d+) \|'
    rows = re.findall(row, README, flags=re.M)
    assert len(rows) == 13
    for name, folder, iterations, gpus, batch in rows:
        cfg = load_config(str(ROOT / 'configs' / name))
        assert cfg.data_root == f'data/{folder}', name
        length = int(iterations.replace('k', '000'))
        assert cfg.train_cfg.max_iters == length, name
        assert cfg.train_dataloader.batch_size == int(batch), name
        total = int(gpus) * int(batch)
        assert cfg.auto_scale_lr.base_batch_size == total, name


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
