"""Two processes against one, over gloo on CPU."""

import copy
import logging
import os
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from torch.nn.parallel import DistributedDataParallel

from pixcon_mm.engine import PixConRunner
from pixcon_mm.models import FeatureQueue
from tests.test_models import tiny


def worker(rank, folder, work):
    dist.init_process_group(
        'gloo', f'file://{folder}/rendezvous', rank=rank, world_size=2
    )
    torch.set_num_threads(1)
    torch.save(work(rank), f'{folder}/{rank}.pth')
    dist.destroy_process_group()


def on_two(work, folder):
    mp.spawn(worker, (str(folder), work), nprocs=2)
    return [torch.load(f'{folder}/{rank}.pth') for rank in range(2)]


def enqueue(rank):
    torch.manual_seed(0)
    queue = FeatureQueue(10, 4)
    for step in range(3):
        queue.enqueue(torch.full((3, 4), 10.0 * step + rank))
    return queue.state_dict()


def test_queue_gathers_in_rank_order(tmp_path):
    first, second = on_two(enqueue, tmp_path)
    torch.manual_seed(0)
    alone = FeatureQueue(10, 4)
    for step in range(3):
        pair = [torch.full((3, 4), 10.0 * step + rank) for rank in range(2)]
        alone.enqueue(torch.cat(pair))
    for name, value in alone.state_dict().items():
        assert torch.equal(first[name], value), name
        assert torch.equal(second[name], value), name


def halves(data, rank):
    part = slice(2 * rank, 2 * rank + 2)
    samples = {k: v[part] for k, v in data['data_samples'].items()}
    return dict(
        inputs=[view[part] for view in data['inputs']], data_samples=samples
    )


def group_norm_model(avg_down=False, **options):
    """Without batch statistics two halves are one whole."""
    norm = dict(type='GN', num_groups=1)
    torch.manual_seed(0)
    return tiny.build(
        backbone=dict(tiny.RESNET, norm_cfg=norm, avg_down=avg_down),
        neck_norm=norm,
        head=dict(norm_cfg=norm, reweight=None),
        **options,
    )


def step(model, data, module=None):
    module = module or model
    optimizer = torch.optim.SGD(
        [p for p in module.parameters() if p.requires_grad], lr=0.1
    )
    data = module.data_preprocessor(data, True)
    losses = model(data['inputs'], data['geometry'], mode='loss')
    sum(losses.values()).backward()
    optimizer.step()
    module.after_optimizer_step(0.0)
    state = dict(module.state_dict())
    state['loss'] = sum(losses.values()).detach()
    return copy.deepcopy(state)


def train(rank):
    model = group_norm_model()
    torch.manual_seed(rank)  # ranks must agree whatever their own seeds
    wrapped = DistributedDataParallel(model, broadcast_buffers=False)
    return step(wrapped, halves(tiny.batch(), rank), module=model)


def test_a_step_on_two_equals_one_on_one(tmp_path):
    first, second = on_two(train, tmp_path)
    alone = step(group_norm_model(), tiny.batch())
    mean = (first.pop('loss') + second.pop('loss')) / 2
    torch.testing.assert_close(mean, alone.pop('loss'))
    for name, value in alone.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(
            first[name], value, rtol=1e-4, atol=1e-5, msg=name
        )


RUNTIME = Path(__file__).parents[1] / 'configs/_base_/pretrain_runtime.py'
# Channels-last is safe for a model this narrow only without strided 1x1
# convolutions (pixcon_mm/models/memory_format.py).
FAST = dict(channels_last=True, avg_down=True)


def some_steps(model, parts, accumulate, wrapped=None):
    """Six batches, as the runner makes optimiser steps of them."""
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(params, lr=1e-3, momentum=0.9, fused=True)
    optim = OptimWrapper(optimizer, accumulative_counts=accumulate)
    optim.initialize_count_status(model, 0, 6)
    for batch in range(6):
        (wrapped or model).train_step(parts(batch), optim)
        if optim.should_update():
            model.after_optimizer_step(batch / 6)
    return copy.deepcopy(dict(model.state_dict()))


def train_as_configured(rank, accumulate):
    cfg = Config.fromfile(RUNTIME)
    cfg.optim_wrapper = dict(accumulative_counts=accumulate)
    # The runner's own choice of wrapper, without all else of a runner.
    runner = PixConRunner.__new__(PixConRunner)
    runner.cfg, runner.logger = cfg, logging.getLogger()
    runner._distributed = True
    os.environ['LOCAL_RANK'] = str(rank)
    model = group_norm_model(**FAST)
    wrapped = runner.wrap_model(cfg.model_wrapper_cfg, model)
    assert wrapped.gradient_as_bucket_view
    assert wrapped.static_graph == (accumulate == 1)
    return some_steps(
        model, lambda i: halves(tiny.batch(seed=i), rank), accumulate, wrapped
    )


@pytest.mark.parametrize('accumulate', [1, 2])
def test_configured_wrapper_trains_as_one_process(tmp_path, accumulate):
    work = partial(train_as_configured, accumulate=accumulate)
    first, second = on_two(work, tmp_path)
    alone = some_steps(
        group_norm_model(**FAST), lambda i: tiny.batch(seed=i), accumulate
    )
    start = dict(group_norm_model(**FAST).state_dict())
    moved = 0
    for name, value in alone.items():
        assert torch.equal(first[name], second[name]), name
        # One process enqueues the halves of the batches in another order.
        if 'queue' not in name or accumulate == 1:
            torch.testing.assert_close(
                first[name], value, rtol=1e-4, atol=1e-5, msg=name
            )
            moved += not torch.equal(start[name], value)
    assert moved > 50
