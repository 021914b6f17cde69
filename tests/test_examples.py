"""Tests of examples/: scripts and a notebook, run as a user does."""

import ast
import json
import logging
import math
import runpy

import pytest
import torch
from torchvision.io import write_jpeg
from torchvision.models import resnet18

from tests import ROOT
from tests.commands import run

EXAMPLE = ROOT / 'examples/pretrain_plain_pytorch.py'


@pytest.fixture
def pretrain(tmp_path, monkeypatch):
    """Return a function that pre-trains for some epochs of two steps."""
    for index in range(9):
        image = torch.randint(256, (3, 80, 100), dtype=torch.uint8)
        write_jpeg(image, str(tmp_path / f'{index}.jpg'))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    main = runpy.run_path(str(EXAMPLE))['main']

    def function(epochs, batch=4):
        torch.manual_seed(0)
        options = ['--epochs', str(epochs), '--batch', str(batch)]
        options += ['--size', '64']
        return main([str(tmp_path), *options])

    yield function
    logging.disable(logging.NOTSET)


def test_plain_loop_trains(pretrain, capsys):
    start, model = pretrain(0), pretrain(2)
    lines = capsys.readouterr().out.splitlines()
    losses = [float(line.split()[-1]) for line in lines]
    assert len(losses) == 4
    assert all(map(math.isfinite, losses))
    for queue in ('image_queue', 'dense_queue'):
        before, after = getattr(start, queue), getattr(model, queue)
        # A quarter of the images, and four steps of four keys each.
        assert len(after.features) == 2
        assert after.count == 16
        assert (before.features != after.features).any(dim=1).all()
    for name, first in start.key_encoder.named_parameters():
        key = model.key_encoder.get_parameter(name)
        query = model.get_parameter(name)
        assert not first.equal(key), name
        assert (key - first).norm() < (key - query).norm(), name
    backbone = torch.load('backbone.pth', weights_only=True)
    missing, unexpected = resnet18().load_state_dict(backbone, strict=False)
    assert missing == ['fc.weight', 'fc.bias']
    assert not unexpected


def test_plain_loop_saves_no_random_weights(pretrain, tmp_path, capsys):
    for batch in (1, 10):
        with pytest.raises(SystemExit):
            pretrain(1, batch=batch)
        assert '--batch must be from 2 to 9, all' in capsys.readouterr().err
    assert not (tmp_path / 'backbone.pth').exists()


def notebook_cells():
    notebook = json.loads((ROOT / 'examples/look_inside.ipynb').read_text())
    return [c for c in notebook['cells'] if c['cell_type'] == 'code']


def test_notebook_imports_what_exists():
    code = '\n'.join(''.join(cell['source']) for cell in notebook_cells())
    nodes = ast.parse(code).body
    kinds = (ast.Import, ast.ImportFrom)
    exec('\n'.join(ast.unparse(n) for n in nodes if isinstance(n, kinds)), {})


@pytest.mark.slow
def test_notebook_runs_after_the_demo(tmp_path, monkeypatch, capsys):
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    scenes = ('--train', '8', '--val', '50')
    config = ('configs/pretrain/pixcon_r18_demo.py', '--quick')
    folder = 'work_dirs/demo/pretrain/pixcon-sr-demo-seed0'
    for command in (
        (ROOT / 'tools/make_demo_data.py', *scenes),
        (ROOT / 'tools/train.py', *config, '--work-dir', folder),
    ):
        process = run(*command, cwd=tmp_path)
        assert process.returncode == 0, process.stderr
    (tmp_path / 'examples').mkdir()
    monkeypatch.chdir(tmp_path / 'examples')
    monkeypatch.setenv('MPLBACKEND', 'agg')
    cells = notebook_cells()
    assert not any(cell['outputs'] for cell in cells)
    names = {}
    for cell in cells:
        exec(''.join(cell['source']), names)
    shown = capsys.readouterr().out
    assert 'torch.Size([256, 15, 20])' in shown
    assert all(f'{name} weights: mIoU' in shown for name in names['predicted'])
