"""Processes validate with the statistics of the first, which are saved."""

from types import SimpleNamespace

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from pixcon_mm.engine import PixConRunner
from pixcon_mm.engine.hooks.same_buffers_hook import SameBuffersHook
from tests.test_engine.runs import config


def process(rank, folder):
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/group', rank=rank, world_size=2
    )
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    model(torch.randn(4, 2, generator=torch.Generator().manual_seed(rank)))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    SameBuffersHook().before_val_epoch(SimpleNamespace(model=model))
    torch.save((before, model.state_dict()), f'{folder}/{rank}.pth')
    dist.barrier()
    dist.destroy_process_group()


def test_all_get_those_of_the_first(tmp_path):
    mp.spawn(process, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f'{rank}.pth') for rank in (0, 1))
    assert not torch.equal(
        first[0]['1.running_mean'], second[0]['1.running_mean']
    )
    for name in ('1.running_mean', '1.running_var', '1.num_batches_tracked'):
        assert torch.equal(first[1][name], first[0][name])
        assert torch.equal(second[1][name], first[0][name])


def test_every_run_has_it(tmp_path):
    runner = PixConRunner.from_cfg(config(tmp_path, 'run'))
    assert any(isinstance(hook, SameBuffersHook) for hook in runner.hooks)
