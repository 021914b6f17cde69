"""mmcv._ext: ours where there is none, and untouched where there is one."""

import copy
import importlib.util
import inspect
import pickle
import sys

import mmcv.ops
import pytest
import torch

from pixcon_mm.errors import UserError, explain
from tests import ROOT, commands

MAP_AND_ROI = torch.rand(1, 2, 3, 3), torch.zeros(1, 5)


def run(script, cwd=ROOT):
    """Run code in a fresh Python, which must print its result alone."""
    done = commands.run(sys.executable, '-c', script, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, '')
    return done.stdout.split()


def boxes(count=4):
    return torch.rand(count, 4).cumsum(dim=1)


@pytest.mark.parametrize(
    ('name', 'call'),
    [
        ('softnms', lambda: mmcv.ops.soft_nms(boxes(), torch.rand(4))),
        ('roi_pool_forward', lambda: mmcv.ops.roi_pool(*MAP_AND_ROI, 2)),
        (
            "pool_mode='max'",
            lambda: mmcv.ops.RoIAlign(2, pool_mode='max')(*MAP_AND_ROI),
        ),
    ],
)
def test_other_operators_say_what_they_need(name, call):
    with pytest.raises(UserError) as caught:
        call()
    sentence = explain(caught.value)
    assert name in sentence.split('needs')[0]
    assert 'pip install' in sentence
    assert '\n' not in sentence


def test_looks_like_a_module_to_python(stand_in):
    for name in ('__path__', '__wrapped__', '__file__', '_repr_html_'):
        assert not hasattr(stand_in, name)
    with pytest.raises(AttributeError, match=r"'mmcv\._ext'.*'__path__'"):
        stand_in.__path__  # noqa: B018
    assert 'not compiled' in mmcv.ops.get_compiler_version()
    assert 'not compiled' in mmcv.ops.get_compiling_cuda_version()
    assert importlib.util.find_spec('mmcv._no_such_module') is None
    assert inspect.ismodule(stand_in)
    assert inspect.unwrap(stand_in) is stand_in
    assert inspect.getdoc(stand_in) is None


@pytest.mark.parametrize(
    'clone', [copy.deepcopy, lambda op: pickle.loads(pickle.dumps(op))]
)
def test_operators_can_be_copied_and_pickled(clone, stand_in):
    assert clone(stand_in.nms) is stand_in.nms
    with pytest.raises(UserError, match="'softnms'"):
        clone(stand_in.softnms)(boxes(), name='of an argument')


def test_import_is_light_and_adds_a_finder():
    """It loads no framework, and MMDetection then imports without a word.

    MMDetection's data sets and metrics do complain, of packages of their own.
    """
    script = """
import sys
import pixcon_mm
heavy = ('mmcv', 'mmdet', 'mmpretrain', 'mmseg', 'torchvision')
for name in (*heavy, 'pixcon_mm.cli'):
    assert name not in sys.modules, name
print(type(sys.meta_path[-1]).__name__)
import mmdet.models
"""
    assert run(script) == ['StandInFinder']


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    """Install an mmcv whose compiled module runs some code."""

    def install(code):
        package = tmp_path / 'mmcv'
        package.mkdir()
        (package / '__init__.py').touch()
        (package / '_ext.py').write_text(code)
        for name in [n for n in sys.modules if n.split('.')[0] == 'mmcv']:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.syspath_prepend(tmp_path)
        return package / '_ext.py'

    return install


def test_a_compiled_module_is_left_alone(compiled):
    path = compiled("nms = 'compiled'\n")
    ext = importlib.import_module('mmcv._ext')
    assert (ext.nms, ext.__file__) == ('compiled', str(path))
    assert not hasattr(ext, 'softnms')


def test_a_compiled_module_that_fails_is_not_covered_up(compiled):
    compiled("raise ImportError('undefined symbol: _ZN3c10')\n")
    with pytest.raises(ImportError, match='undefined symbol: _ZN3c10'):
        importlib.import_module('mmcv._ext')


def test_an_mmcv_without_one_gets_ours(compiled, stand_in):
    compiled('').unlink()
    ext = importlib.import_module('mmcv._ext')
    assert ext.nms is stand_in.nms
    assert ext.__spec__.origin == 'pixcon_mm.ops'


@pytest.mark.slow
def test_spawned_loader_workers(tmp_path):
    (tmp_path / 'boxes.py').write_text("""
import pixcon_mm
import torch
from mmcv.ops import nms

class Boxes(torch.utils.data.Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2]])
        return nms(boxes, torch.tensor([0.3, 0.4]), 0.5)[1]
""")
    script = """
from boxes import Boxes
from torch.utils.data import DataLoader
loader = DataLoader(Boxes(), num_workers=1, multiprocessing_context='spawn')
print(next(iter(loader)).item())
"""
    assert run(script, tmp_path) == ['1']
