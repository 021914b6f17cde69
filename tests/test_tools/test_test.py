"""tools/test.py: metrics of the whole model as JSON, on any processes."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pixcon_mm.engine import PixConRunner
from pixcon_mm.errors import UserError
from tests import test_transfer, toy
from tests.test_models import tiny

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _framework_state():
    with toy.framework_state():
        yield


@pytest.fixture(scope='module')
def tool():
    """tools/test.py as a module."""
    spec = importlib.util.spec_from_file_location(
        'tools_test', ROOT / 'tools/test.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A segmentor's config and checkpoint, and its metrics."""
    folder = tmp_path_factory.mktemp('trained')
    with toy.framework_state():
        cfg = test_transfer.fcn(folder, 'none')
        cfg.train_cfg.val_interval = 10
        cfg.default_hooks.checkpoint.interval = 2
        runner = PixConRunner.from_cfg(cfg)
        runner.train()
        expected = runner.test()
    cfg.dump(folder / 'fcn.py')
    return folder / 'fcn.py', folder / 'work/iter_2.pth', expected


def run(tool, monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['test.py', *map(str, arguments)])
    tool.main()


def test_metrics_are_those_of_the_evaluator(
    tool, trained, tmp_path, monkeypatch, capsys
):
    config, checkpoint, expected = trained
    out = tmp_path / 'results/metrics.json'
    work = ['--work-dir', tmp_path / 'work']
    run(tool, monkeypatch, config, checkpoint, '--out', out, *work)
    found = json.loads(out.read_text())
    assert found['config'] == str(config)
    assert found['checkpoint'] == str(checkpoint)
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert found['sha256'] == digest
    assert found['metrics'] == pytest.approx(expected)
    assert found['metrics']['aAcc'] > 0
    said = capsys.readouterr().out
    for name in expected:
        assert f'\n{name} ' in said
    assert f'metrics in {out}' in said
    assert [path.name for path in out.parent.iterdir()] == ['metrics.json']


def test_two_processes_give_the_metrics_of_one(trained, tmp_path):
    config, checkpoint, expected = trained
    run = subprocess.run(
        ['bash', ROOT / 'tools/dist_test.sh', config, checkpoint, '2']
        + ['--work-dir', tmp_path],
        env=dict(os.environ, PYTHON=sys.executable, CUDA_VISIBLE_DEVICES=''),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads((tmp_path / 'metrics.json').read_text())
    assert found['metrics'] == pytest.approx(expected)
    assert run.stdout.count('metrics in') == 1


def save(path, tensors):
    torch.save(dict(state_dict=tensors), path)
    return path


def test_part_of_a_model_is_refused(tool, trained, tmp_path, monkeypatch):
    config, checkpoint, _ = trained
    tensors = torch.load(checkpoint, weights_only=False)['state_dict']
    lost = [name for name in tensors if 'decode_head' in name]
    kept = {n: t for n, t in tensors.items() if n not in lost}
    path = save(tmp_path / 'part.pth', kept)
    with pytest.raises(UserError) as caught:
        run(tool, monkeypatch, config, path, '--work-dir', tmp_path)
    counted = [n for n in lost if not n.endswith('num_batches_tracked')]
    said = f'model: {len(counted)} of {len(tensors)} tensors are not in'
    assert said in str(caught.value)
    assert not (tmp_path / 'metrics.json').exists()


def test_pretraining_checkpoint_is_refused(
    tool, trained, tmp_path, monkeypatch
):
    path = save(tmp_path / 'pixcon.pth', tiny.build().state_dict())
    with pytest.raises(UserError, match='is a checkpoint of pre-training'):
        run(tool, monkeypatch, trained[0], path, '--work-dir', tmp_path)


def test_missing_checkpoint_and_missing_test_set(
    tool, trained, tmp_path, monkeypatch
):
    config, _, _ = trained
    work = ['--work-dir', tmp_path]
    with pytest.raises(UserError, match='no file of weights'):
        run(tool, monkeypatch, config, tmp_path / 'none.pth', *work)
    recipe = ROOT / 'configs/pretrain/pixcon_r50_coco.py'
    with pytest.raises(UserError, match="has no 'test_dataloader'"):
        run(tool, monkeypatch, recipe, tmp_path / 'none.pth', *work)
