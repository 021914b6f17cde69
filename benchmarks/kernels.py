"""Profile of a training step, by kernel."""

import argparse
import re
import statistics
from functools import partial

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmpretrain.registry import TRANSFORMS
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

import pixcon_mm.datasets  # noqa: F401, registers the transforms
from benchmarks.measure import Call, seconds
from benchmarks.report import Report
from benchmarks.step import (
    MAIN,
    PRETRAIN,
    fused_sgd,
    ours,
    random_batch,
    sizes,
    train_step,
    wrap,
)
from pixcon_mm.errors import UserError

TOP = 15  # number of kernels in the table
COLUMNS = {
    'ms': lambda row: f'{1e3 * row["seconds"]:.2f}',
    'calls': lambda row: f'{row["calls"]}',
}
# Patterns for names of CUDA kernels and of CPU operators. The first pattern
# that matches gives the kind.
KINDS = {
    'attention': r'flash|fmha|attention|_linear_pointwise',
    'norms': r'batch_?norm|bn_|bnfwd|bnbwd|welford',
    'optimiser and key encoder': r'multi_tensor|foreach|fused_sgd',
    'convolutions and products': r'conv|gemm|nvjet|cutlass|cudnn|xmma|addmm'
    r'|aten::b?mm|splitk|wgrad|dgrad',
    'copies': r'memcpy|memset|copy',
}


def kernels(args: argparse.Namespace) -> Report:
    """Profile our step: largest kernels, and shares of its parts."""
    model = ours(args)
    batch = augmented_batch(args)
    step = partial(train_step, model, wrap(args, fused_sgd(model)), batch)
    augment = partial(model.data_preprocessor, batch, training=True)
    for call in (step, augment, step):
        call()
    times = [seconds(step, args.device) for _ in range(args.rounds)]
    wall = statistics.median(times)
    rows, colours = (run_profiled(f, args.device) for f in (step, augment))
    busy = sum(row['seconds'] for row in rows)
    if not busy:
        raise UserError(
            "PyTorch's profiler has recorded no kernel on this machine."
        )
    ratios = {
        'kernels per step': sum(row['calls'] for row in rows),
        'kernels of augmentation': sum(row['calls'] for row in colours),
        'ms per step': 1e3 * wall,
        # On a CPU, which is slower under the profiler, this may exceed 1.
        'share of it that kernels run': busy / wall,
        'share of augmentation': sum(r['seconds'] for r in colours) / busy,
        **shares_of(rows),
    }
    title = f'Kernels of a training step, {sizes(args)}, queue {args.queue}'
    return Report(title, rows[:TOP], columns=COLUMNS, ratios=ratios)


def augmented_batch(args: argparse.Namespace) -> dict:
    """Return a random batch with the main recipe's colour augmentation."""
    cfg = Config.fromfile(PRETRAIN / f'{MAIN}.py').train_dataloader.dataset
    (transform,) = (
        step for step in cfg.pipeline if step.type == 'SamplePhotometrics'
    )
    np.random.seed(0)
    sample = TRANSFORMS.build(transform)
    numbers = [sample({})['photometrics'] for _ in range(args.batch)]
    batch = random_batch(args)
    batch['data_samples']['photometrics'] = default_collate(numbers)
    return batch


def run_profiled(call: Call, device: str) -> list[dict]:
    """Run a call once; return its kernels, the longest first.

    On CUDA these are kernels and copies. On a CPU they are operators, without
    the time of other operators that they call.

    Returns:
        list[dict]: ``name``, ``seconds`` of all calls together, ``calls``.
    """
    cuda = device == 'cuda'
    activity = ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU
    with profile(activities=[activity]) as result:
        call()
        if cuda:
            torch.cuda.synchronize()
    wanted = DeviceType.CUDA if cuda else DeviceType.CPU
    rows = []
    for event in result.key_averages():
        own = (
            event.self_device_time_total if cuda else event.self_cpu_time_total
        )
        if event.device_type == wanted and own > 0:
            rows.append(
                dict(name=event.key, seconds=own / 1e6, calls=event.count)
            )
    return sorted(rows, key=lambda row: -row['seconds'])


def shares_of(rows: list[dict]) -> dict[str, float]:
    """Return each kind's share of the kernels' total time.

    Example:
        >>> flash = dict(name='flash_fwd', seconds=1)
        >>> shares = shares_of([flash, dict(name='other', seconds=3)])
        >>> shares['share of attention']
        0.25
    """
    total = sum(row['seconds'] for row in rows)
    shares = dict.fromkeys([*KINDS, 'the rest'], 0.0)
    for row in rows:
        kind = next(
            (k for k, p in KINDS.items() if re.search(p, row['name'], re.I)),
            'the rest',
        )
        shares[kind] += row['seconds'] / total
    return {f'share of {kind}': share for kind, share in shares.items()}
