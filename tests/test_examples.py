"""Tests of the scripts in examples/, run with a user's arguments."""

import logging
import math
import runpy

import pytest
import torch
from torchvision.io import write_jpeg
from torchvision.models import resnet18

from tests import ROOT

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

    def function(epochs):
        torch.manual_seed(0)
        options = ['--epochs', str(epochs), '--batch', '4', '--size', '64']
        return main([str(tmp_path), *options])

    yield function
    logging.disable(logging.NOTSET)


def test_plain_loop_trains(pretrain, capsys):
    start, model = pretrain(0), pretrain(2)
    lines = capsys.readouterr().out.splitlines()
    losses = [float(line.split()[-1]) for line in lines]
    assert len(losses) == 4
    assert all(map(math.isfinite, losses))
    # Four steps of four keys each.
    for queue in ('image_queue', 'dense_queue'):
        before, after = getattr(start, queue), getattr(model, queue)
        moved = (before.features != after.features).any(dim=1)
        assert moved.nonzero().flatten().tolist() == list(range(16))
    for name, first in start.key_encoder.named_parameters():
        key = model.key_encoder.get_parameter(name)
        query = model.get_parameter(name)
        assert not first.equal(key), name
        assert (key - first).norm() < (key - query).norm(), name
    backbone = torch.load('backbone.pth', weights_only=True)
    missing, unexpected = resnet18().load_state_dict(backbone, strict=False)
    assert missing == ['fc.weight', 'fc.bias']
    assert not unexpected
