"""The dense InfoNCE, forward and backward, by each backend."""

import argparse

import torch
import torch.nn.functional as F

from benchmarks.measure import Call
from benchmarks.release import ReleaseInfoNCE
from pixcon_mm.models.info_nce import info_nce

RELEASE = "naive: the release's logits"


def unit_rows(rows: int, args: argparse.Namespace) -> torch.Tensor:
    """Random points on the sphere. Shape (rows, C)."""
    features = torch.randn(rows, args.channels, device=args.device)
    return F.normalize(features, dim=1)


def loss_calls(args: argparse.Namespace) -> dict[str, Call]:
    """Both directions of a batch of query cells against a queue."""
    rows = 2 * args.batch * args.cells
    query, positive = unit_rows(rows, args), unit_rows(rows, args)
    query.requires_grad_()
    queue = unit_rows(args.queue, args)
    released = ReleaseInfoNCE()
    dtype = getattr(torch, args.dtype)

    def autocast() -> torch.autocast:
        return torch.autocast(
            args.device, dtype, enabled=dtype != torch.float32
        )

    def naive() -> None:
        with autocast():
            nce = released(query, positive, queue)
        torch.autograd.grad(nce.loss.mean(), query)

    def ours(backend: str) -> None:
        with autocast():
            nce = info_nce(query, positive, queue, backend=backend)
        torch.autograd.grad(nce.loss.mean(), query)

    return {
        RELEASE: naive,
        'chunked': lambda: ours('chunked'),
        'fused': lambda: ours('fused'),
    }


def queue_calls(args: argparse.Namespace) -> dict[str, Call]:
    """The fastest backend against queues of growing length."""
    calls = {}
    for length in args.lengths:
        sized = argparse.Namespace(**{**vars(args), 'queue': length})
        calls[f'K = {length:,}'] = loss_calls(sized)['fused']
    return calls
