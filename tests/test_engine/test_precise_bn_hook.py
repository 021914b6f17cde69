"""Statistics of all batches, for the weights that are tested."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import nn

from pixcon_mm.engine.hooks import PreciseBatchNormHook


class Net(BaseModel):
    """Two batch norms, the second behind the first."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
        self.frozen = nn.BatchNorm1d(3).eval()

    def forward(self, inputs, mode):
        assert mode == 'loss'
        assert not torch.is_grad_enabled()
        return self.second(torch.relu(self.first(inputs)))


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(0)
    return [
        dict(inputs=i + (i + 1) * torch.randn(8, 3, generator=generator))
        for i in range(4)
    ]


def run(model, batches, iteration=9, num_batches=4):
    runner = SimpleNamespace(
        iter=iteration,
        max_iters=10,
        model=model,
        logger=MMLogger('precise_bn'),
        train_loop=SimpleNamespace(dataloader_iterator=iter(batches)),
        optim_wrapper=OptimWrapper(torch.optim.SGD(model.parameters(), lr=1)),
    )
    hook = PreciseBatchNormHook(num_batches=num_batches)
    hook.after_train_iter(runner, batch_idx=iteration)


def test_moments_over_all_batches(batches):
    model = Net()
    weights = [p.clone() for p in model.parameters()]
    run(model, batches)
    inputs = torch.stack([batch['inputs'] for batch in batches]).double()
    # Variance about the mean of all, not the mean of the variances.
    mean = inputs.mean((0, 1))
    square = (inputs.var(1) + inputs.mean(1) ** 2).mean(0)
    torch.testing.assert_close(model.first.running_mean.double(), mean)
    torch.testing.assert_close(
        model.first.running_var.double(), square - mean**2
    )
    # The second layer sees what the first gives in training.
    hidden = [
        torch.relu((x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt())
        for x in inputs
    ]
    torch.testing.assert_close(
        model.second.running_mean.double(),
        torch.stack(hidden).mean((0, 1)),
        rtol=1e-5,
        atol=1e-6,
    )
    assert model.first.momentum == model.second.momentum == 0.1
    for new, old in zip(model.parameters(), weights, strict=True):
        assert torch.equal(new, old)


def test_only_after_the_last_iteration_and_not_for_frozen_layers(batches):
    model = Net()
    run(model, batches, iteration=8)
    assert not model.first.running_mean.any()
    run(model, batches, num_batches=2)
    assert model.first.running_mean.any()
    assert not model.frozen.running_mean.any()
