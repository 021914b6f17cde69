"""Tests of the commands in README.md and docs/: each is parsed or run."""

import argparse
import re
import runpy
import shlex
import sys
from functools import reduce
from importlib.util import find_spec
from operator import getitem
from pathlib import Path

import pytest

from pixcon_mm import config
from pixcon_mm.cli import prepare_config, set_epochs
from pixcon_mm.config import load_config
from reproduction.plan import read_plan
from reproduction.runs import runs_of
from tests import ROOT
from tests.commands import SHOW_WORDS, executable, run

PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('**/*.md'))]
BLOCKS = [
    block.replace('\\\n', ' ')
    for page in PAGES
    for block in re.findall(r'```bash\n(.*?)```', page.read_text(), re.S)
]
SCRIPTS = [block for block in BLOCKS if block.startswith('#SBATCH')]
COMMANDS = {
    ' '.join(words): words
    for block in BLOCKS
    if block not in SCRIPTS
    for line in block.splitlines()
    if (words := shlex.split(line, comments=True))
}


def commands(start):
    """Parametrise a test by the commands that start with some words."""
    found = [name for name in COMMANDS if name.startswith(start)]
    words = [COMMANDS.pop(name) for name in found]
    return pytest.mark.parametrize('command', words, ids=found)


class Parsed(BaseException):
    """The parsed arguments of a tool, raised in place of running it."""


def parse(tool, arguments, monkeypatch):
    """Start a tool and return its arguments, parsed."""
    original = argparse.ArgumentParser.parse_args

    def parse_args(self, args=None, namespace=None):
        raise Parsed(original(self, args, namespace))

    monkeypatch.setattr(sys, 'argv', [str(tool), *arguments])
    monkeypatch.setenv('OMP_WAIT_POLICY', 'PASSIVE')  # train.py sets it
    monkeypatch.chdir(ROOT)
    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, 'parse_args', parse_args)
        patch.syspath_prepend((ROOT / tool).parent)  # as Python does
        with pytest.raises(Parsed) as caught:
            runpy.run_path(str(ROOT / tool), run_name='__main__')
    return caught.value.args[0]


def parse_launched(command, processes, monkeypatch, tmp_path):
    """Return the arguments of the tool that a launcher starts."""
    fake = executable(tmp_path / 'python', SHOW_WORDS)
    process = run(*command, PYTHON=str(fake))
    assert process.returncode == 0, process.stderr
    words = process.stdout.splitlines()
    place = words.index('--nproc-per-node') + 1
    assert words[place] == processes
    return parse(words[place + 1], words[place + 2 :], monkeypatch)


@commands('make ')
def test_make(command):
    process = run('make', '--dry-run', *command[1:])
    assert 'python' in process.stdout, process.stderr


@commands(
    (
        *('pip install', 'grep ', 'python tools/check_env.py'),
        'bash tools/make_wheelhouse.sh',
    )
)
def test_files_exist(command):
    assert all((ROOT / word).is_file() for word in command if '/' in word)


@commands('bash tools/dist_train.sh ')
def test_training(command, monkeypatch, tmp_path):
    args = parse_launched(command, command[3], monkeypatch, tmp_path)
    cfg = prepare_config(args, 'work_dirs/x')
    assert args.pretrained or '/pretrain/' in args.config
    if args.epochs:
        set_epochs(cfg, args.epochs)
        assert cfg.train_cfg.max_epochs == args.epochs
    for name, value in (args.cfg_options or {}).items():
        if name == 'data_root':
            name = 'train_dataloader.dataset.data_root'
        assert reduce(getitem, name.split('.'), cfg) == value


@commands('bash tools/dist_test.sh ')
def test_testing(command, monkeypatch, tmp_path):
    args = parse_launched(command, command[4], monkeypatch, tmp_path)
    # A training writes its last checkpoint there.
    last = load_config(args.config).train_cfg.max_iters
    folder = f'work_dirs/{Path(args.config).stem}'
    assert args.checkpoint == f'{folder}/iter_{last}.pth'


@commands('pixcon-train ')
def test_training_from_a_wheel(command, monkeypatch):
    monkeypatch.setattr(config, 'SHIPPED', ROOT / 'configs')
    args = parse('tools/train.py', command[1:], monkeypatch)
    cfg = prepare_config(args, 'work_dirs/x')
    root = args.cfg_options['data_root']
    assert cfg.train_dataloader.dataset.data_root == root


@commands('python -m ')
def test_modules(command):
    assert find_spec(command[2])


@commands('python ')
def test_python(command, monkeypatch):
    args = parse(command[1], command[2:], monkeypatch)
    if command[1] == 'tools/reproduce.py':
        monkeypatch.undo()  # a plan parses options of a tool, too
        assert set(args.only) <= set(runs_of(read_plan(ROOT / args.plan)))


def test_no_command_is_left():
    assert list(COMMANDS) == ['source .venv/bin/activate']


@pytest.mark.parametrize('status', [0, 1, 75])
def test_slurm_script_requeues_a_stopped_run(status):
    (script,) = SCRIPTS
    stand_ins = f'bash() {{ return {status}; }}; scontrol() {{ echo "$@"; }}\n'
    process = run('bash', '-c', stand_ins + script, SLURM_JOB_ID='7')
    expected = status, 'requeue 7\n' if status == 75 else ''
    assert (process.returncode, process.stdout) == expected
