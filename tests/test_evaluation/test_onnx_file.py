"""ONNX files compute what PyTorch does, at any size, or are refused."""

import pytest
import torch
from torch import nn

from pixcon_mm.errors import UserError
from pixcon_mm.evaluation.backbones import FrozenBackbone, load_backbone
from pixcon_mm.evaluation.onnx_file import to_onnx
from tests import ROOT

onnxruntime = pytest.importorskip(
    'onnxruntime', reason='needs the extra "export"'
)


def test_any_batch_and_size():
    """Of images as files have them: the normalisation is in the file."""
    arch = ROOT / 'configs/pretrain/pixcon_r18-w32_small.py'
    backbone = load_backbone(str(arch), 'none')
    content, error = to_onnx(backbone)
    assert error < 1e-5
    session = onnxruntime.InferenceSession(content)
    images = torch.randint(256, (3, 3, 5 * 16, 3 * 16)).float()
    (found,) = session.run(['features'], dict(images=images.numpy()))
    assert found.shape == (3, 256, 5, 3)
    expected = backbone(images)
    # Sums of a thousand products in another order, layer after layer.
    least = 1e-5 * expected.abs().max().item()
    torch.testing.assert_close(
        torch.from_numpy(found), expected, rtol=1e-4, atol=least
    )


class Table(nn.Module):
    """A network whose result depends on a size in a way that is traced."""

    def forward(self, images):
        maps = nn.functional.avg_pool2d(images, 8)
        return maps + float(maps.shape[3])


def test_a_network_of_one_size_is_refused():
    net = Table()
    backbone = FrozenBackbone(net, net, stride=8, channels=3)
    with pytest.raises(UserError, match='works for one size only'):
        to_onnx(backbone)
