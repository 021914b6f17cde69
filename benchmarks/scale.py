"""Two processes against one: what the exchange of gradients costs."""

import argparse
import statistics
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.model import MMDistributedDataParallel

from benchmarks.quiet import quiet
from benchmarks.step import (
    fused_sgd,
    ours,
    random_batch,
    train_call,
    wrap,
)

ALONE = 'one process'
APART = 'processes side by side, gradients not exchanged'
TOGETHER = 'processes with DDP'


def scale_rows(args: argparse.Namespace) -> list[dict]:
    """Step times of one process and of several, a thread or GPU each.

    The processes keep their queues in step in both cases; with DDP they
    exchange gradients as well.
    """
    context = mp.get_context('spawn')
    rows = []
    for world in (1, args.processes):
        results = context.Queue()
        mp.spawn(_process, (world, args, results), nprocs=world)
        rows += results.get()
    return rows


def _process(rank: int, world: int, args, results) -> None:
    quiet()
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
    calls = {name: _call(name, args) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(args.rounds + 1):
        for name, call in calls.items():
            dist.barrier()
            start = time.perf_counter()
            call()
            dist.barrier()
            if turn:  # the first one warms up
                times[name].append(time.perf_counter() - start)
    if rank == 0:
        results.put([_row(name, taken) for name, taken in times.items()])
    dist.barrier()
    dist.destroy_process_group()


def _call(name: str, args):
    model = ours(args)
    optim = wrap(args, fused_sgd(model))
    if name != TOGETHER:
        return train_call(model, optim, random_batch(args))
    wrapped = MMDistributedDataParallel(
        model,
        device_ids=None if args.device == 'cpu' else [args.device],
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
        static_graph=True,
    )
    step = train_call(wrapped, optim, random_batch(args))

    def call() -> None:
        step()
        model.after_optimizer_step(progress=0.0)

    return call


def _row(name: str, taken: list[float]) -> dict:
    return dict(
        name=name,
        seconds=statistics.median(taken),
        spread=(min(taken), max(taken)),
        bytes=None,
    )
