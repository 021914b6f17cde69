"""Files of weights are read safely, or refused with a sentence."""

import argparse
import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file

from pixcon_mm.checkpoint.reading import (
    backbone_tensors,
    read_tensors,
    sha256_of,
)
from pixcon_mm.errors import UserError

TENSORS = OrderedDict(a=torch.arange(3.0), b=torch.ones(2, 2))


class Code:
    """Runs a command when unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder / 'code was run'),)


@pytest.mark.parametrize(
    'content',
    [
        TENSORS,
        dict(state_dict=TENSORS, meta=dict(epoch=1)),
        dict(model=TENSORS, args=argparse.Namespace(lr=0.1)),
        # As MMEngine's checkpoints, whose history and numbers are numpy's.
        dict(
            state_dict=TENSORS,
            message_hub=dict(
                log_scalars=dict(loss=HistoryBuffer([1.0, 2.0], [1, 1])),
                runtime_info=dict(lr=np.float64(0.1), best=np.int64(3)),
            ),
        ),
    ],
    ids=['state dict', 'state_dict', 'model', 'mmengine'],
)
@pytest.mark.parametrize('zipped', [True, False])
def test_tensors_of_checkpoints(content, zipped, tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    found = read_tensors(path)
    assert list(found) == list(TENSORS)
    assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)


def test_reading_leaves_no_stand_ins_behind(tmp_path):
    """They would stand in for the real classes when a run resumes."""
    before = torch.serialization.get_safe_globals()
    torch.save(TENSORS, tmp_path / 'weights.pth')
    read_tensors(tmp_path / 'weights.pth')
    assert torch.serialization.get_safe_globals() == before


def test_tensors_of_safetensors(tmp_path):
    save_file(dict(TENSORS), tmp_path / 'weights.safetensors')
    found = read_tensors(tmp_path / 'weights.safetensors')
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)


@pytest.mark.parametrize('zipped', [True, False])
def test_code_is_refused_and_not_run(zipped, tmp_path):
    path = tmp_path / 'weights.pth'
    content = dict(state_dict=TENSORS, extra=Code(tmp_path))
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r'mkdir.*could run code.*not loaded'):
        read_tensors(path)
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match='no file of weights'):
        read_tensors(path)
    assert not (tmp_path / 'code was run').exists()


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('share', [0.0, 0.02, 0.5, 0.98])
def test_truncated_file(zipped, share, tmp_path):
    path = tmp_path / 'weights.pth'
    content = dict(state_dict=dict(a=torch.zeros(5000)))
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(
        UserError, match=r'weights.pth is no file .* cut short'
    ):
        read_tensors(path)


@pytest.mark.parametrize(
    ('content', 'problem'),
    [
        (b'\n<!DOCTYPE html>\n<html>', 'a web page'),
        (b'version https://git-lfs.github.com/spec/v1\n', 'git lfs pull'),
        (b'{"message": "Not Found"}', 'JSON'),
    ],
)
def test_text_in_place_of_weights(content, problem, tmp_path):
    path = tmp_path / 'resnet50.pth'
    path.write_bytes(content)
    with pytest.raises(UserError, match=f'holds no weights, but .*{problem}'):
        read_tensors(path)


def test_broken_safetensors(tmp_path):
    path = tmp_path / 'weights.safetensors'
    path.write_bytes(b'\x08' * 100)
    with pytest.raises(UserError, match='cut short'):
        read_tensors(path)


def test_no_file_and_no_tensors(tmp_path):
    with pytest.raises(UserError, match='There is no file'):
        read_tensors(tmp_path / 'none.pth')
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(UserError, match='holds no tensors by name'):
        read_tensors(tmp_path / 'list.pth')


def test_backbone_of_each_layout():
    bare = {'conv1.weight': 1, 'layer1.0.conv1.weight': 2}
    ours = {f'backbone.{name}': value for name, value in bare.items()}
    ours['key_encoder.backbone.conv1.weight'] = 3
    assert backbone_tensors(ours) == bare
    assert backbone_tensors(bare) == bare
    # The release keeps an alias of it beside the query encoder.
    release = {f'encoder_q.0.{name}': value for name, value in bare.items()}
    release['backbone.conv1.weight'] = release['encoder_k.0.conv1.weight'] = 3
    assert backbone_tensors(release) == bare
    moco = {f'module.encoder_q.{name}': value for name, value in bare.items()}
    assert backbone_tensors(moco, prefix='module.encoder_q.') == bare
    with pytest.raises(UserError, match="begins with 'encoder.'; the first"):
        backbone_tensors(moco, prefix='encoder.')


def test_sha256(tmp_path):
    (tmp_path / 'file').write_bytes(b'abc')
    known = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
    assert sha256_of(tmp_path / 'file') == known
