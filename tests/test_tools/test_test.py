"""tools/test.py: metrics of the whole model as JSON, on any processes."""

import hashlib
import json
import re

import numpy as np
import pytest
import torch
from mmengine.config import Config

from pixcon_mm.engine import PixConRunner
from pixcon_mm.errors import UserError
from pixcon_mm.tools import test as tool
from tests import ROOT
from tests.commands import run as run_command
from tests.commands import sentence_of
from tests.test_models import tiny


def run(*words):
    tool.main([str(word) for word in words])


def test_metrics_are_those_of_the_evaluator(trained, tmp_path, capsys):
    config, checkpoint, expected = trained
    out = tmp_path / 'results/metrics.json'
    work = ['--work-dir', tmp_path / 'work']
    run(config, checkpoint, '--out', out, *work)
    found = json.loads(out.read_text())
    assert found['config'] == str(config)
    assert found['checkpoint'] == str(checkpoint)
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert found['sha256'] == digest
    assert found['metrics'] == pytest.approx(expected)
    assert found['metrics']['aAcc'] > 0
    assert found['per_class'].keys() == {'IoU', 'Acc'}
    for values in found['per_class'].values():
        assert len(values) == 150
        assert (values['wall'], values['flag']) != (None, None)
    shown = capsys.readouterr().out
    for name, value in expected.items():
        assert re.search(rf'\n{name} +{value:.2f}\n', shown)
    assert f'metrics in {out}' in shown
    assert [path.name for path in out.parent.iterdir()] == ['metrics.json']


def test_metrics_are_json(trained, tmp_path):
    words = sentence_of(run, *trained[:2], '--out', tmp_path / 'found.pkl')
    assert 'the metrics are written as JSON' in words


def test_pictures_are_spread_over_the_test_set(trained, tmp_path, capsys):
    config, checkpoint, _ = trained
    shown = tmp_path / 'shown'
    options = ['--show-dir', shown, '--show-count', 2, '--work-dir', tmp_path]
    run(config, checkpoint, *options)
    names = sorted(path.name for path in shown.iterdir())
    assert names == ['00000_000000.jpg', '00003_000003.jpg']
    printed = capsys.readouterr().out
    assert f'2 pictures of truth and prediction in {shown}' in printed


def test_a_detector_that_finds_nothing_has_zeros(detector, tmp_path):
    config, checkpoint = detector
    options = ['--show-dir', tmp_path / 'shown', '--show-count', 1]
    options += ['--work-dir', tmp_path]
    options += ['--cfg-options', 'model.test_cfg.rcnn.score_thr=1.0']
    run(config, checkpoint, *options)
    found = json.loads((tmp_path / 'metrics.json').read_text())
    assert found['metrics']['coco/bbox_mAP'] == 0
    assert found['metrics']['coco/segm_mAP'] == 0
    classes = found['per_class']['coco/segm_mAP']
    assert len(classes) == 80
    # The truth has two classes.
    assert [classes[name] for name in ('person', 'bicycle')] == [0, 0]
    assert classes['car'] is None
    assert len([*(tmp_path / 'shown').iterdir()]) == 1


@pytest.mark.slow
def test_two_processes_give_the_metrics_of_one(trained, tmp_path):
    config, checkpoint, expected = trained
    run = run_command(
        *('bash', ROOT / 'tools/dist_test.sh', config, checkpoint, '2'),
        *('--work-dir', 'results'),
        cwd=tmp_path,
        CUDA_VISIBLE_DEVICES='',
    )
    assert run.returncode == 0, run.stderr
    # MMEngine would exchange results through a folder here, which may be full
    # or read-only.
    assert [path.name for path in tmp_path.iterdir()] == ['results']
    found = json.loads((tmp_path / 'results/metrics.json').read_text())
    assert found['metrics'] == pytest.approx(expected)
    assert run.stdout.count('metrics in') == 1


def save(path, tensors):
    torch.save(dict(state_dict=tensors), path)
    return path


def test_part_of_a_model_is_refused(trained, tmp_path):
    config, checkpoint, _ = trained
    tensors = torch.load(checkpoint, weights_only=False)['state_dict']
    lost = [name for name in tensors if 'decode_head' in name]
    kept = {n: t for n, t in tensors.items() if n not in lost}
    path = save(tmp_path / 'part.pth', kept)
    sentence = sentence_of(run, config, path, '--work-dir', tmp_path)
    counted = [n for n in lost if not n.endswith('num_batches_tracked')]
    words = f'model: {len(counted)} of {len(tensors)} tensors are not in'
    assert words in sentence
    assert not (tmp_path / 'metrics.json').exists()


def test_pretraining_checkpoint_is_refused(trained, tmp_path):
    path = save(tmp_path / 'pixcon.pth', tiny.build().state_dict())
    with pytest.raises(UserError, match='is a checkpoint of pre-training'):
        run(trained[0], path, '--work-dir', tmp_path)


def test_nothing_is_loaded_over_the_checkpoint(trained, tmp_path):
    config, checkpoint, expected = trained
    tensors = torch.load(checkpoint, weights_only=False)['state_dict']
    # This model would see the same class everywhere.
    bias = tensors['decode_head.conv_seg.bias']
    bias.copy_(1e6 * torch.arange(len(bias)))
    other = save(tmp_path / 'other.pth', tensors)
    out = tmp_path / 'metrics.json'
    # As train.py --resume leaves them in the config of a work dir.
    for case in (dict(load_from=str(other)), dict(resume=True)):
        cfg, path = Config.fromfile(config), tmp_path / 'variant.py'
        cfg.update(case)
        cfg.dump(path)
        # The newest checkpoint of the training is in its work dir.
        run(path, checkpoint, '--out', out)
        found = json.loads(out.read_text())['metrics']
        assert found == pytest.approx(expected), case


def test_values_that_are_not_numbers(trained, tmp_path, monkeypatch, capsys):
    config, checkpoint, _ = trained
    out, work = tmp_path / 'metrics.json', tmp_path / 'work'
    values = dict(a=np.float32('nan'), b=float('inf'), c=np.float32(0.5))
    monkeypatch.setattr(PixConRunner, 'test', lambda runner: values)
    run(config, checkpoint, '--out', out, '--work-dir', work)
    # Strict JSON has neither NaN nor Infinity.
    found = json.loads(out.read_text(), parse_constant=pytest.fail)
    assert found['metrics'] == dict(a=None, b=None, c=0.5)
    assert f'metrics in {out}' in capsys.readouterr().out


def test_place_of_the_metrics_is_checked_before_the_evaluation(
    trained, tmp_path, monkeypatch
):
    config, checkpoint, _ = trained
    monkeypatch.setattr(
        PixConRunner, 'test', lambda runner: pytest.fail('ran')
    )
    (tmp_path / 'file').touch()
    work = ['--work-dir', tmp_path / 'work']
    for out, words in (
        (tmp_path, 'is a folder: name a file in it'),
        (tmp_path / 'file/metrics.json', 'file cannot be written .* --out'),
    ):
        with pytest.raises(UserError, match=words):
            run(config, checkpoint, '--out', out, *work)
    words = r'file cannot be written \(File exists\): .* with --show-dir\.'
    with pytest.raises(UserError, match=words):
        run(config, checkpoint, '--show-dir', tmp_path / 'file', *work)


def test_a_mistake_is_one_sentence_and_exit_code_1(trained, tmp_path, call):
    missing = str(tmp_path / 'none.pth')
    status, _, shown = call(tool.main, trained[0], missing)
    assert status == 1
    assert shown == f'error: There is no file of weights {missing!r}.\n'
    (tmp_path / 'nose.pth').touch()
    _, _, shown = call(tool.main, trained[0], missing)
    assert "Did you mean 'nose.pth'? Its folder has nose.pth." in shown
    recipe = ROOT / 'configs/pretrain/pixcon_r50_coco.py'
    status, _, shown = call(tool.main, recipe, missing)
    assert status == 1
    assert "has no 'test_evaluator'" in shown
