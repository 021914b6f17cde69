"""Commands are those that the tools take, with the settings of the plan."""

import importlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pixcon_mm.checkpoint.run_checkpoint import write_checkpoint
from pixcon_mm.config_variables import runner_keys
from reproduction.launch import build_command, readable, write_metrics
from reproduction.plan import read_plan
from reproduction.run_dir import RunDir
from reproduction.runs import flatten, runs_of, settings_of
from tests import ROOT
from tests.commands import SHOW_WORDS, executable
from tests.commands import run as start


def stand_in(folder, name):
    """Return the status of a plan in which all parents are complete."""
    plan = read_plan(ROOT / f'plans/{name}.yaml')
    return SimpleNamespace(
        plan=plan,
        runs=runs_of(plan),
        run_dir=lambda run: RunDir(folder / run.name),
        checkpoint=lambda run: folder / run.name / 'last.pth',
    )


def tool_arguments(line, folder):
    """Return tool and arguments that a command ends in, without launchers."""
    if line[0] == sys.executable:
        return line[1:]
    fake = executable(folder / 'python', SHOW_WORDS)
    words = start(*line, PYTHON=str(fake)).stdout.splitlines()
    ends = [word.endswith(('train.py', 'test.py')) for word in words]
    return words[ends.index(True) :]


# A run of each kind, with and without a launcher.
@pytest.mark.parametrize(
    ('plan', 'name'),
    [
        ('demo', 'pretrain/pixcon-sr-demo-seed1'),
        ('demo', 'finetune/segmentation/pixcon-sr-demo-seed1'),
        ('demo', 'test/detection/random-seed0'),
        ('paper', 'pretrain/pixcon-sr-coco-plus-seed0'),
        ('paper', 'finetune/coco/pixcon-sr-coco-seed2'),
        ('paper', 'finetune/voc0712/supervised-seed1'),
        ('paper', 'test/ade20k/pixcon-coord-coco-seed2'),
    ],
)
def test_the_tool_gets_the_settings_of_the_plan(
    plan, name, tmp_path, monkeypatch
):
    status = stand_in(tmp_path, plan)
    run = status.runs[name]
    wanted = status.plan.with_roots(settings_of(run))
    wanted = {
        key: value
        for key, value in wanted.items()
        if not key.startswith(('pretrain.', 'finetune.', 'weights'))
    }
    monkeypatch.setenv('WORLD_SIZE', str(max(run.gpus, 1)))
    tool, *arguments = tool_arguments(build_command(status, run), tmp_path)
    module = importlib.import_module(f'pixcon_mm.tools.{Path(tool).stem}')
    args = module.parse_args(arguments)
    cfg = module.prepare(args)
    known = runner_keys()
    got = flatten({k: v for k, v in cfg._cfg_dict.items() if k in known})
    assert args.work_dir == str(tmp_path / run.name)
    assert cfg.randomness.seed == wanted.pop('seed') == run.seed
    source = run.weights
    if run.parent:
        source = str(status.checkpoint(run.parent))
    if run.kind == 'test':
        assert args.checkpoint == source
    if run.kind == 'finetune':
        assert args.pretrained == source
        assert cfg.default_hooks.pretrained.source == source
    assert len(wanted) > 40
    assert {key: got.get(key) for key in wanted} == wanted


def test_a_started_run_resumes(tmp_path):
    status = stand_in(tmp_path, 'demo')
    run = status.runs['finetune/detection/random-seed1']
    line = build_command(status, run)
    assert readable(line).startswith(f'python tools/train.py {run.config} ')
    assert '--resume' not in line
    folder = tmp_path / run.name
    folder.mkdir(parents=True)
    (folder / '.iter_20.pth.7.part').touch()
    assert '--resume' not in build_command(status, run)  # half of one
    (folder / 'iter_20.pth').touch()
    line = build_command(status, run)
    # Without a file: the tool skips damaged ones.
    assert line[line.index('--resume') + 1].startswith('--')
    assert '--pretrained' not in line


def test_another_number_of_processes_keeps_the_batch(tmp_path):
    status = stand_in(tmp_path, 'paper')
    for name, total in (
        ('pretrain/pixcon-sr-coco-seed0', '512'),
        ('finetune/coco/random-seed0', '16'),
    ):
        run = status.runs[name]
        for gpus in (None, 0, 2):
            line = build_command(status, run, gpus)
            assert line[line.index('--total-batch') + 1] == total
        assert line[:4] == ['bash', 'tools/dist_train.sh', run.config, '2']
    line = build_command(status, status.runs['test/coco/random-seed0'], 2)
    assert '--total-batch' not in line


def test_the_result_is_the_furthest_checkpoint(tmp_path):
    """Its file need not be the newest: the folder may have been copied."""
    runs = runs_of(read_plan(ROOT / 'plans/demo.yaml'))
    run = runs['pretrain/pixcon-sr-demo-seed0']
    run_dir = RunDir(tmp_path)
    run_dir.write('run.json', dict(settings={}, parent_sha256=None))
    for epoch, time in ((7, 300), (8, 100), (6, 200)):
        meta = dict(epoch=epoch, iter=16 * epoch, scale=dict(epoch_length=16))
        path = tmp_path / f'epoch_{epoch}.pth'
        content = dict(meta=meta, state_dict={}, optimizer={}, message_hub={})
        write_checkpoint(content, path)
        os.utime(path, (time, time))
    write_metrics(run, run_dir)
    known = run_dir.read('metrics.json')['checkpoint']
    assert known['name'] == 'epoch_8.pth'
