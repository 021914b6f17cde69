"""Files of weights are loaded safely, and fill a model completely."""

import argparse
import io
import pickle
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import save, save_file

from pixcon_mm.checkpoint.export import usual_resnet
from pixcon_mm.checkpoint.fill import load_strict
from pixcon_mm.checkpoint.load import load_tensors, load_weights
from pixcon_mm.errors import UserError
from tests import toy

TENSORS = dict(a=torch.arange(3.0), b=torch.ones(2, 2))
ARRAYS = {name: tensor.numpy() for name, tensor in TENSORS.items()}


def check_tensors(path):
    found = load_tensors(path)
    assert list(found) == list(TENSORS)
    assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)


@pytest.mark.parametrize(
    'content',
    [
        TENSORS,
        dict(state_dict=TENSORS, meta=dict(epoch=1)),
        dict(model=TENSORS, args=argparse.Namespace(lr=0.1, out=Path('a'))),
        dict(model=ARRAYS),
        dict(model=TENSORS, state=defaultdict(dict, {1: dict(step=2)})),
        # As MMEngine's checkpoints, whose history and numbers are numpy's.
        dict(
            state_dict=TENSORS,
            message_hub=dict(
                log_scalars=dict(loss=HistoryBuffer([1.0, 2.0], [1, 1])),
                runtime_info=dict(lr=np.float64(0.1), best=np.int64(3)),
            ),
        ),
    ],
    ids=['plain', 'state_dict', 'model', 'arrays', 'defaultdict', 'mmengine'],
)
@pytest.mark.parametrize('zipped', [True, False])
def test_tensors_of_checkpoints(content, zipped, tmp_path):
    """No class that stood in for another one is left behind."""
    before = {*torch.serialization.get_safe_globals()}
    path = tmp_path / 'weights.pth'
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    check_tensors(path)
    assert {*torch.serialization.get_safe_globals()} == before


@pytest.mark.parametrize('suffix', ['safetensors', 'pth', 'pkl', 'bin'])
def test_the_content_counts_not_the_name(suffix, tmp_path):
    path = tmp_path / f'weights.{suffix}'
    save_file(TENSORS, path)
    check_tensors(path)
    torch.save(TENSORS, path)
    check_tensors(path)
    path.write_bytes(pickle.dumps(dict(model=ARRAYS)))
    check_tensors(path)


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_arrays_of_numpy(protocol, tmp_path):
    arrays = {
        'a.half': np.float16([[1, 2], [3, 4]]),
        'a.fortran': np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        'a.big': np.arange(3, dtype='>i4'),
        'a.bool': np.array([True, False]),
        'a.scalar': np.float32(0.5),
        'a.zero': np.array(7),
        'a.empty': np.zeros((0, 3), dtype=np.float32),
    }
    path = tmp_path / 'weights.pkl'
    others = {'a.text': np.array(['b']), 'a.object': np.array([None])}
    path.write_bytes(pickle.dumps({**arrays, **others}, protocol))
    found = load_tensors(path)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].shape == array.shape
        assert found[name].tolist() == array.tolist()
        assert str(found[name].dtype) == f'torch.{array.dtype.name}'


class Crafted:
    """An array whose number of bytes is not that of its shape."""

    def __reduce__(self):
        return np.ndarray, ((1000, 1000), '<f4', b'few')


def test_damaged_files(tmp_path):
    path, buffer = tmp_path / 'weights.pth', io.BytesIO()
    # As PyTorch wrote them before version 1.6.
    tensors = dict(state_dict=dict(a=torch.zeros(5000)))
    torch.save(tensors, buffer, _use_new_zipfile_serialization=False)
    old, arrays = buffer.getvalue(), pickle.dumps(dict(model=ARRAYS))
    for content in (
        *(save(TENSORS)[:-1], b'\x08' * 100),
        *(arrays[:-9], arrays[:3], pickle.dumps({'a.b': Crafted()})),
        *(old[: int(share * len(old))] for share in (0.0, 0.02, 0.5, 0.98)),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match='weights.pth is not a .* truncat'):
            load_tensors(path)


@pytest.mark.parametrize('kind', ['zip', 'old', 'pickle'])
def test_code_is_refused_and_not_run(kind, tmp_path):
    path = tmp_path / 'weights.pth'
    content = dict(model=ARRAYS, extra=toy.Code(tmp_path))
    if kind == 'pickle':
        path.write_bytes(pickle.dumps(content))
    else:
        is_zip = kind == 'zip'
        torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(UserError, match=r'mkdir.*could run code.*not loaded'):
        load_tensors(path)
    assert not (tmp_path / 'code was run').exists()


@pytest.mark.parametrize('kind', [str, Path])
def test_an_address_is_not_read(kind):
    """OpenMMLab's own programs would download such files."""
    address = 'https://download.openmmlab.com/moco.pth'
    with pytest.raises(UserError, match=f'download {address}, and name'):
        load_tensors(kind(address))


@pytest.mark.parametrize(
    ('content', 'problem'),
    [
        (b'\n<!DOCTYPE html>\n<html>', 'does not hold weights but a web page'),
        (b'version https://git-lfs.github.com/spec/v1\n', 'git lfs pull'),
        (b'{"message": "Not Found"}', 'does not hold weights but JSON'),
        (None, 'There is no file'),
        ([1, 2], 'has no named tensors'),
        (dict(epoch=1, args={}), "no named tensors.*keys are 'epoch' and"),
    ],
)
def test_files_without_weights(content, problem, tmp_path):
    path = tmp_path / 'resnet50.pth'
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        torch.save(content, path)
    with pytest.raises(UserError, match=problem):
        load_tensors(path)


def test_a_torchscript_program_is_refused(tmp_path):
    path = tmp_path / 'program.pt'
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    with pytest.raises(UserError, match='TorchScript program'):
        load_tensors(path)


def test_containers_in_circles_count_once(tmp_path):
    tensors = {'fc.weight': torch.ones(2)}
    content = dict(tensors, state=dict(tensors))
    for number in range(8):  # eight to the eighth paths
        content['state'][f'again{number}'] = content
    torch.save(content, tmp_path / 'weights.pth')
    found = load_weights(tmp_path / 'weights.pth')
    assert found.places.keys() == {'', 'state'}


@pytest.fixture(scope='module')
def resnets():
    """State dicts without classifier."""
    return {
        f'r{depth}': {
            n: torch.zeros(s) for n, s in usual_resnet(depth).items()
        }
        for depth in (18, 50, 101)
    }


@pytest.fixture
def model():
    return {
        'conv1.weight': torch.zeros(2, 3),
        'bn1.running_mean': torch.zeros(2),
        'bn1.num_batches_tracked': torch.tensor(7),
    }


@pytest.fixture
def weights():
    return {
        'conv1.weight': torch.ones(2, 3, dtype=torch.float16),
        'bn1.running_mean': torch.full((2,), 2.0),
        'bn1.num_batches_tracked': torch.tensor(5),
    }


@pytest.mark.parametrize('has_counter', [True, False])
def test_every_tensor_is_filled_in_place(model, weights, has_counter):
    """The count of batches may be missing."""
    filled = model['conv1.weight']
    if not has_counter:
        del weights['bn1.num_batches_tracked']
    line = load_strict(model, weights, 'backbone', 'FILE')
    assert line == 'backbone: 3/3 tensors from FILE'
    assert filled.tolist() == [[1.0] * 3] * 2
    assert filled.dtype == torch.float32
    assert model['bn1.running_mean'].tolist() == [2.0, 2.0]
    assert model['bn1.num_batches_tracked'] == (5 if has_counter else 0)


def test_classifier_and_absent_stage_are_left_out(resnets):
    r50 = resnets['r50']
    first = {n: t for n, t in r50.items() if not n.startswith('layer4')}
    weights = {**r50, 'fc.weight': torch.zeros(10, 2048)}
    assert '318/318' in load_strict(dict(r50), weights, 'backbone', 'FILE')
    assert '258/258' in load_strict(first, weights, 'backbone', 'FILE')


@pytest.mark.parametrize(
    ('name', 'tensor', 'problem'),
    [
        (
            'bn1.running_mean',
            None,
            '1 of 3 tensors is not in FILE, the first is bn1.running_mean: '
            'only some of the weights belong to this model',
        ),
        (
            'conv1.weight',
            torch.ones(3, 2),
            '1 of 3 tensors has another shape in FILE, .* conv1.weight '
            r'\(3x2, and 2x3 in the model\): .* name the config',
        ),
        (
            'bn1.num_batches_tracked',
            torch.ones(1),
            r'num_batches_tracked \(1, and a single number in the model\)',
        ),
        (
            'conv1.weight',
            torch.full((2, 3), torch.nan),
            r'1 of 3 tensors holds NaN .* in FILE, .* conv1.weight '
            r'\(6 of its 6 values\): .* diverged',
        ),
        (
            'conv1.weight',
            torch.full((2, 3), 1e300, dtype=torch.float64),
            '1 of 3 tensors holds NaN or infinite .*in FILE',
        ),
        (
            'conv1.weight',
            torch.ones(2, 3, dtype=torch.int8),
            r'1 of 3 tensors has no dense .* \(torch.int8.*quantised',
        ),
        (
            'conv1.weight',
            torch.ones(2, 3).to_sparse(),
            '1 of 3 tensors has no dense .*sparse_coo',
        ),
        ('conv1.bias', torch.ones(2), 'no place for 1 .* first is conv1.bias'),
    ],
)
def test_nothing_is_filled_unless_all_is(
    model, weights, name, tensor, problem
):
    weights[name] = tensor
    if tensor is None:
        del weights[name]
    with pytest.raises(UserError, match=f'backbone: .*{problem}'):
        load_strict(model, weights, 'backbone', 'FILE')
    assert not model['conv1.weight'].any()
    assert model['bn1.num_batches_tracked'] == 7


def deep(resnet):
    plain = {n: t for n, t in resnet.items() if 'conv1' not in n[:6]}
    return {**plain, 'stem.0.weight': torch.zeros(32, 3, 3, 3)}


@pytest.mark.parametrize(
    ('make', 'cause'),
    [
        (lambda r: (r['r50'], r['r18']), 'to a ResNet-18, .* is a ResNet-50'),
        (lambda r: (r['r50'], r['r101']), 'a ResNet-101, .* is a ResNet-50'),
        (lambda r: (r['r50'], deep(r['r50'])), 'to a ResNet with a deep stem'),
        (lambda r: (deep(r['r50']), r['r50']), "deep stem .*type='ResNet'"),
        (lambda r: (r['r18'], {'x': torch.zeros(1)}), 'to another model'),
    ],
)
def test_the_likely_cause_is_named(resnets, make, cause):
    model, weights = make(resnets)
    with pytest.raises(UserError, match=cause):
        load_strict(model, weights, 'backbone', 'FILE')
