"""What is run is what was asked for, by commands that the tools take."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pixcon_mm.errors import UserError
from reproduction.command import command, readable
from reproduction.folder import Folder
from reproduction.plan_file import read_plan
from reproduction.runs import runs_of, with_roots
from reproduction.settings import (
    as_arguments,
    flatten,
    runner_keys,
    settings_of,
)
from tests import toy

ROOT = Path(__file__).resolve().parents[2]
# A run of each kind, with and without a launcher.
RUNS = [
    ('demo', 'pretrain/pixcon-sr-demo-seed1'),
    ('demo', 'finetune/segmentation/pixcon-sr-demo-seed1'),
    ('demo', 'finetune/detection/random-seed0'),
    ('demo', 'test/detection/random-seed0'),
    ('paper', 'pretrain/pixcon-sr-coco-plus-seed0'),
    ('paper', 'pretrain/pixcon-sim-coco-seed0'),
    ('paper', 'finetune/coco/pixcon-sr-coco-seed2'),
    ('paper', 'finetune/voc0712/supervised-seed1'),
    ('paper', 'test/ade20k/pixcon-coord-coco-seed2'),
]


@pytest.fixture(autouse=True)
def _framework_state(monkeypatch):
    monkeypatch.chdir(ROOT)
    with toy.framework_state():
        yield


def stand_in(folder, name):
    """A survey in which all that a run needs is complete."""
    plan = read_plan(ROOT / f'plans/{name}.yaml')
    return SimpleNamespace(
        plan=plan,
        runs=runs_of(plan),
        folder=lambda run: Folder(folder / run.name),
        checkpoint=lambda run: folder / run.name / 'last.pth',
    )


def tool_arguments(line, folder):
    """Tool and arguments that a command ends in, launchers included."""
    if line[0] == sys.executable:
        return line[1:]
    fake = folder / 'python'
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    said = subprocess.run(
        line,
        env=dict(os.environ, PYTHON=str(fake)),
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    tool = next(
        i
        for i, word in enumerate(said)
        if word.endswith(('train.py', 'test.py'))
    )
    return said[tool:]


def module_of(tool):
    spec = importlib.util.spec_from_file_location('tool', ROOT / tool)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(('name', 'run'), RUNS)
def test_the_tool_gets_the_settings_of_the_plan(
    name, run, tmp_path, monkeypatch
):
    survey = stand_in(tmp_path, name)
    run = survey.runs[run]
    # What is read for the settings is read before the tool's own changes.
    asked = {
        key: with_roots(survey.plan, {key: value})[key]
        for key, value in settings_of(run).items()
    }
    monkeypatch.setenv('WORLD_SIZE', str(max(run.gpus, 1)))
    tool, *arguments = tool_arguments(command(survey, run), tmp_path)
    module = module_of(tool)
    args = module.parse_args(arguments)
    cfg = module.prepare(args)
    known = runner_keys()
    got = flatten({k: v for k, v in cfg._cfg_dict.items() if k in known})
    assert args.work_dir == str(tmp_path / run.name)
    assert cfg.randomness.seed == asked.pop('seed') == run.seed
    asked = {k: v for k, v in asked.items() if not k.startswith('start')}
    if run.kind == 'test':
        needed = survey.checkpoint(survey.runs[run.needs])
        assert args.checkpoint == str(needed)
    if run.kind == 'finetune':
        source = run.weights or str(survey.checkpoint(survey.runs[run.needs]))
        assert args.pretrained == source
        assert cfg.default_hooks.pretrained.source == source
    assert len(asked) > 40
    assert {key: got.get(key) for key in asked} == asked


def test_a_started_run_resumes(tmp_path):
    survey = stand_in(tmp_path, 'demo')
    for name in (
        'pretrain/mocov2plus-demo-seed0',
        'finetune/detection/random-seed1',
    ):
        run = survey.runs[name]
        assert '--resume' not in command(survey, run)
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / '.iter_20.pth.7.part').touch()
        assert '--resume' not in command(survey, run)  # half of one
        (folder / 'iter_20.pth').touch()
        line = command(survey, run)
        # Without a file: the tool passes over damaged ones.
        assert line[line.index('--resume') + 1].startswith('--')
        assert '--pretrained' not in line


def test_another_number_of_processes_keeps_the_batch(tmp_path):
    survey = stand_in(tmp_path, 'paper')
    for name, total in (
        ('pretrain/pixcon-sr-coco-seed0', '512'),
        ('finetune/coco/random-seed0', '16'),
    ):
        run = survey.runs[name]
        for gpus in (None, 0, 2):
            line = command(survey, run, gpus)
            assert line[line.index('--total-batch') + 1] == total
        assert line[:4] == ['bash', 'tools/dist_train.sh', run.config, '2']
    line = command(survey, survey.runs['test/coco/random-seed0'], 2)
    assert '--total-batch' not in line


def test_commands_read_as_a_person_types_them(tmp_path):
    survey = stand_in(tmp_path, 'demo')
    line = command(survey, survey.runs['finetune/segmentation/random-seed0'])
    assert readable(line).startswith(
        'python tools/train.py configs/segmentation/fcn_r18_demo.py '
    )
    assert "'" not in readable(line).replace(str(tmp_path), '')


@pytest.mark.parametrize(
    'value', [1, 0.5, True, None, 'a/b', [1, 2], ['a', 'b'], [['a'], [1]]]
)
def test_values_arrive_as_they_were(value):
    assert as_arguments({'key': value})[0].startswith('key=')


@pytest.mark.parametrize('value', ['1', 'None', 'a,b', {'a': 1}])
def test_values_that_would_arrive_as_others(value):
    with pytest.raises(UserError, match='key: .* cannot be given'):
        as_arguments({'key': value})
