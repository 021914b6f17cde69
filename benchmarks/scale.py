"""Time of several processes and of one: cost of exchanging gradients."""

import argparse
import time
from functools import partial

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import init_default_scope

from benchmarks.measure import Call, row_of
from benchmarks.report import Report
from benchmarks.step import (
    fused_sgd,
    ours,
    random_batch,
    sizes,
    train_step,
    wrap,
)
from pixcon_mm.cli import end_process_group, quiet

ALONE = 'one process'
APART = 'processes side by side, gradients not exchanged'
TOGETHER = 'processes with DDP'


def scale(args: argparse.Namespace) -> Report:
    """Compare several processes with one; each has a thread or a GPU.

    The processes always synchronise their queues; with DDP they exchange
    gradients as well.
    """
    context = mp.get_context('spawn')
    rows = []
    for world in (1, args.processes):
        results = context.Queue()
        mp.spawn(_process, (world, args, results), nprocs=world)
        rows += results.get()
    alone, apart, together = (row['seconds'] for row in rows)
    exchange = 'share of the step spent exchanging gradients'
    ratios = {
        exchange: 1 - apart / together,
        f'efficiency of {args.processes} processes': alone / together,
    }
    title = f'{args.processes} processes, each {sizes(args)}'
    # Without images/s, as the rows count one process or all of them.
    return Report(title, rows, ALONE, ratios=ratios)


def _process(rank: int, world: int, args, results) -> None:
    torch.manual_seed(0)
    if args.device == 'cuda':
        torch.cuda.set_device(rank)
    else:
        torch.set_num_threads(1)
    dist.init_process_group(
        'nccl' if args.device == 'cuda' else 'gloo',
        init_method=f'tcp://127.0.0.1:{args.port + world}',
        rank=rank,
        world_size=world,
    )
    names = [ALONE] if world == 1 else [APART, TOGETHER]
    with quiet():
        init_default_scope('mmpretrain')
        calls = {name: _call(name, args) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(args.rounds + 1):
        for name, call in calls.items():
            dist.barrier()
            start = time.perf_counter()
            call()
            dist.barrier()
            if turn:  # the first turn warms up
                times[name].append(time.perf_counter() - start)
    if rank == 0:
        results.put([row_of(name, taken) for name, taken in times.items()])
    dist.barrier()
    del call, calls
    end_process_group()


def _call(name: str, args: argparse.Namespace) -> Call:
    model = ours(args)
    optim = wrap(args, fused_sgd(model))
    if name == TOGETHER:
        model = MMDistributedDataParallel(
            model,
            device_ids=None if args.device == 'cpu' else [args.device],
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
            static_graph=True,
        )
    return partial(train_step, model, optim, random_batch(args))
