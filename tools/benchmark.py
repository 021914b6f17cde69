#!/usr/bin/env python
"""Compare, side by side in one run, what a step costs.

    python tools/benchmark.py loss                # InfoNCE, on CPU or CUDA

Every figure is a median of interleaved rounds in this one process; peak
memory is what a call needs beyond its inputs.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def synchronize(device: str) -> None:
    """Wait for the device, so that a clock reads its work."""
    if device == 'cuda':
        torch.cuda.synchronize()


def seconds(call: Callable, device: str) -> float:
    """Wall time of one call."""
    synchronize(device)
    start = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - start


def peak_memory(call: Callable, device: str) -> int | None:
    """Bytes that a call needs at its peak beyond those held before it.

    On CPU, the resident set as Linux counts it; None elsewhere.
    """
    if device == 'cuda':
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    try:
        # 5 resets the high-water mark of the resident set.
        Path('/proc/self/clear_refs').write_text('5')
    except OSError:
        return None
    before = resident('VmRSS')
    call()
    return max(resident('VmHWM') - before, 0)


def resident(field: str) -> int:
    """A memory field of this process, in bytes."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise ValueError(f'/proc/self/status has no field {field}')


def compare(
    calls: dict[str, Callable], rounds: int, device: str
) -> dict[str, dict]:
    """Time and memory of each call, rounds interleaved.

    Returns:
        dict: By name, median ``seconds``, their ``spread`` (min, max) and
        ``bytes`` of extra peak memory.
    """
    for call in calls.values():
        call()
    times = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds(call, device))
    return {
        name: dict(
            seconds=statistics.median(times[name]),
            spread=(min(times[name]), max(times[name])),
            bytes=peak_memory(call, device),
        )
        for name, call in calls.items()
    }


def loss_calls(args: argparse.Namespace) -> dict[str, Callable]:
    """Forward and backward of the dense InfoNCE by each backend."""
    from pixcon_mm.models.info_nce import info_nce

    def unit(rows: int) -> torch.Tensor:
        features = torch.randn(rows, args.channels, device=args.device)
        return F.normalize(features, dim=1)

    rows = args.batch * args.cells
    query, positive, queue = unit(rows), unit(rows), unit(args.queue)
    query.requires_grad_()
    dtype = getattr(torch, args.dtype)

    def run(backend: str) -> None:
        amp = dtype != torch.float32
        with torch.autocast(args.device, dtype, enabled=amp):
            nce = info_nce(query, positive, queue, 0.2, backend)
        torch.autograd.grad(nce.loss.mean(), query)

    names = ('naive', 'chunked', 'fused')
    return {name: lambda name=name: run(name) for name in names}


def show(title: str, results: dict[str, dict], baseline: str) -> None:
    """Print the results as a table, as ratios to the baseline."""
    table = Table(title=title)
    table.add_column('what')
    for column in ('ms', 'min-max', 'times faster', 'extra MB', 'of memory'):
        table.add_column(column, justify='right')
    base = results[baseline]
    for name, row in results.items():
        low, high = (1e3 * value for value in row['spread'])
        memory = ('?', '?')
        if row['bytes'] is not None and base['bytes']:
            share = row['bytes'] / base['bytes']
            memory = (f'{row["bytes"] / 1e6:.1f}', f'{share:.3f}')
        table.add_row(
            name,
            f'{1e3 * row["seconds"]:.1f}',
            f'{low:.1f}-{high:.1f}',
            f'{base["seconds"] / row["seconds"]:.2f}',
            *memory,
        )
    Console(width=max(Console().width, 79)).print(table)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description='Compare what a training step costs.'
    )
    commands = parser.add_subparsers(dest='command', required=True)
    loss = commands.add_parser('loss', help='InfoNCE, forward + backward')
    loss.add_argument('--batch', type=int, default=16)
    loss.add_argument('--cells', type=int, default=49)
    loss.add_argument('--queue', type=int, default=65536)
    loss.add_argument('--channels', type=int, default=128)
    loss.add_argument('--rounds', type=int, default=7)
    loss.add_argument(
        '--dtype',
        default='float32',
        choices=('float32', 'float16', 'bfloat16'),
    )
    loss.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu'
    )
    loss.add_argument('--json', type=Path, help='also write the figures here')
    return parser.parse_args(argv)


def main() -> None:
    """Run the comparison that was asked for."""
    args = parse_args()
    torch.manual_seed(0)
    results = compare(loss_calls(args), args.rounds, args.device)
    show(
        f'InfoNCE forward + backward, {args.batch} x {args.cells} queries, '
        f'queue {args.queue}, {args.dtype}, {args.device}',
        results,
        baseline='naive',
    )
    if args.json:
        record = dict(settings=vars(args), results=results)
        args.json.write_text(json.dumps(record, default=str, indent=2))


if __name__ == '__main__':
    main()
