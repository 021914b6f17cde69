"""Time of the dense InfoNCE, forward and backward, by backend and queue."""

import argparse
from functools import partial

import torch
import torch.nn.functional as F

from benchmarks.measure import Call, compare
from benchmarks.release import ReleaseInfoNCE
from benchmarks.report import Report
from pixcon_mm.models.info_nce import info_nce
from pixcon_mm.models.queue_attention import fastest_backend

RELEASE = "naive: the release's logits"


def loss(args: argparse.Namespace) -> Report:
    """Compare InfoNCE with the release's formulation."""
    return Report(
        f'InfoNCE forward + backward, 2 x {args.batch} x {args.cells} '
        f'queries, queue {args.queue}',
        queued(loss_calls(args, args.queue), args),
        RELEASE,
    )


def queue(args: argparse.Namespace) -> Report:
    """Compare InfoNCE with queues of growing length."""
    backend = fastest_backend(
        torch.device(args.device), getattr(torch, args.dtype), args.channels
    )
    calls = {
        f'K = {length:,}': loss_calls(args, length)[backend]
        for length in args.lengths
    }
    return Report(
        f'InfoNCE forward + backward by queue length, 2 x {args.batch} x '
        f'{args.cells} queries',
        queued(calls, args),
        next(iter(calls)),
    )


def queued(calls: dict[str, Call], args: argparse.Namespace) -> list[dict]:
    """Time calls in rows of ten on a GPU, where they queue as in training."""
    repeat = 10 if args.device == 'cuda' else 1
    return compare(calls, args.rounds, args.device, repeat=repeat)


def loss_calls(args: argparse.Namespace, length: int) -> dict[str, Call]:
    """Return calls of each backend with both directions of a batch of cells.

    Args:
        args (argparse.Namespace): Options of the command line.
        length (int): Length of the queue.
    """
    rows = 2 * args.batch * args.cells
    query, positive, features = (
        F.normalize(torch.randn(n, args.channels, device=args.device), dim=1)
        for n in (rows, rows, length)
    )
    query.requires_grad_()
    dtype = getattr(torch, args.dtype)
    autocast = partial(
        torch.autocast, args.device, dtype, enabled=dtype != torch.float32
    )

    def call(function, *inputs, **options) -> None:
        with autocast():
            nce = function(query, positive, *inputs, **options)
        torch.autograd.grad(nce.loss.mean(), query)

    return {
        RELEASE: partial(call, ReleaseInfoNCE(), features),
        'chunked': partial(call, info_nce, features, backend='chunked'),
        'fused': partial(call, info_nce, features, backend='fused'),
    }
