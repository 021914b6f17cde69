#!/usr/bin/env python
"""Compare, side by side in one run, what training costs.

    python tools/benchmark.py loss                 # InfoNCE by each backend
    python tools/benchmark.py queue                # InfoNCE by queue length
    python tools/benchmark.py step                 # the whole training step
    python tools/benchmark.py data --data FOLDER   # the loader, on one core
    python tools/benchmark.py train --data FOLDER  # loader and step together
    python tools/benchmark.py scale                # two processes against one
    python tools/benchmark.py memory               # peak by batch, traced

Every figure is a median of interleaved rounds of one run. Sizes are the
recipe's on CUDA, small ones on CPU; peak memory is what a call needs beyond
what was held before it.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measure import compare  # noqa: E402
from benchmarks.quiet import quiet  # noqa: E402
from benchmarks.report import show, write  # noqa: E402
from pixcon_mm.errors import run_tool  # noqa: E402

Result = tuple[str, list[dict], str, int, dict[str, float]]


def loss(args: argparse.Namespace) -> Result:
    """InfoNCE against the release's formulation."""
    from benchmarks.loss import RELEASE, loss_calls

    rows = compare(loss_calls(args), args.rounds, args.device)
    title = (
        f'InfoNCE forward + backward, 2 x {args.batch} x {args.cells} '
        f'queries, queue {args.queue}'
    )
    return title, rows, RELEASE, 0, {}


def queue(args: argparse.Namespace) -> Result:
    """InfoNCE against queues of growing length."""
    from benchmarks.loss import queue_calls

    rows = compare(queue_calls(args), args.rounds, args.device)
    title = (
        f'InfoNCE forward + backward by queue length, 2 x {args.batch} '
        f'x {args.cells} queries'
    )
    return title, rows, rows[0]['name'], 0, {}


def step(args: argparse.Namespace) -> Result:
    """A training step against the release's, MMPretrain's and the limit."""
    from benchmarks.step import (
        DENSECL,
        LIMIT,
        OURS,
        RELEASE,
        step_calls,
    )

    rows = compare(step_calls(args), args.rounds, args.device)
    time = {row['name']: row['seconds'] for row in rows}
    ratios = {
        'times faster than the release': time[RELEASE] / time[OURS],
        'times faster than DenseCL, which runs one direction': time[DENSECL]
        / time[OURS],
        'the same per direction': 2 * time[DENSECL] / time[OURS],
        'share of the limit': time[LIMIT] / time[OURS],
    }
    title = f'Training step, {sizes(args)}, queue {args.queue}'
    return title, rows, RELEASE, args.batch, ratios


def data(args: argparse.Namespace) -> Result:
    """What the loader costs."""
    from benchmarks.data import (
        BYOL,
        OURS,
        data_calls,
        device_call,
    )

    rows = compare(data_calls(args), args.rounds, 'cpu')
    for row in rows:
        row['bytes'] = None
    time = {row['name']: row['seconds'] for row in rows}
    (device,) = compare(
        dict(device=device_call(args)), args.rounds, args.device
    )
    ratios = {
        'times faster than the BYOL pipeline': time[BYOL] / time[OURS],
        f'ms an image on the device ({args.device})': 1e3
        * device['seconds']
        / args.batch,
    }
    title = f'Loader on one core, two views of {args.size} px'
    return title, rows, BYOL, args.images, ratios


def train(args: argparse.Namespace) -> Result:
    """Loader and step together."""
    from benchmarks.train import DENSECL, TRAINING, hours, train_rows

    rows = train_rows(args)
    time = {row['name']: row['seconds'] for row in rows}
    ratios = {
        f'hours for 800 epochs of {name}': value
        for name, value in hours(args.batch / time[TRAINING]).items()
    }
    title = f'Training, {sizes(args)}, {args.workers} workers'
    return title, rows, DENSECL, args.batch, ratios


def scale(args: argparse.Namespace) -> Result:
    """Several processes against one."""
    from benchmarks.scale import ALONE, APART, TOGETHER, scale_rows

    rows = scale_rows(args)
    time = {row['name']: row['seconds'] for row in rows}
    ratios = {
        'share of the step that is exchange of gradients': 1
        - time[APART] / time[TOGETHER],
        f'efficiency of {args.processes} processes': time[ALONE]
        / time[TOGETHER],
    }
    title = f'{args.processes} processes, each {sizes(args)}'
    return title, rows, ALONE, args.batch, ratios


def memory(args: argparse.Namespace) -> Result:
    """Peak memory of a step on CUDA by batch size, traced without a GPU."""
    from benchmarks.memory import memory_rows
    from benchmarks.step import pixcon_config

    rows = memory_rows(
        pixcon_config(args, channels_last=True),
        args.batches,
        args.size,
        getattr(torch, args.dtype),
    )
    title = (
        f'Peak memory on CUDA, traced, ResNet-{args.depth}, {args.size} px, '
        f'{args.dtype}, queue {args.queue}'
    )
    return title, rows, rows[0]['name'], 0, {}


def sizes(args: argparse.Namespace) -> str:
    """The settings that a step depends on, for a title."""
    return (
        f'ResNet-{args.depth}, {args.size} px, batch {args.batch}, '
        f'{args.dtype}, {args.device}'
    )


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line; sizes as in the recipe on CUDA, small on CPU."""
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest='command', required=True)

    def command(call: Callable[..., Result]) -> argparse.ArgumentParser:
        sub = commands.add_parser(call.__name__, help=call.__doc__)
        sub.set_defaults(call=call)
        add = sub.add_argument
        add('--device', default='cuda' if cuda else 'cpu')
        add(
            '--dtype',
            default='float16' if cuda else 'float32',
            choices=('float32', 'float16', 'bfloat16'),
            help='of mixed precision; float32 for none',
        )
        add('--rounds', type=int, default=7)
        add('--json', type=Path, help='also write the figures here')
        add('--batch', type=int, default=256 if cuda else 16)
        add('--queue', type=int, default=65536)
        return sub

    def model(sub: argparse.ArgumentParser) -> argparse.ArgumentParser:
        sub.add_argument('--depth', type=int, default=50 if cuda else 18)
        sub.add_argument('--size', type=int, default=224 if cuda else 128)
        sub.add_argument(
            '--compile', action='store_true', help='torch.compile backbones'
        )
        return sub

    def rows(sub: argparse.ArgumentParser) -> argparse.ArgumentParser:
        sub.add_argument('--cells', type=int, default=49)
        sub.add_argument('--channels', type=int, default=128)
        return sub

    def images(sub: argparse.ArgumentParser) -> argparse.ArgumentParser:
        sub.add_argument('--data', required=True, help='folder of images')
        return sub

    rows(command(loss))
    rows(command(queue)).add_argument(
        '--lengths',
        type=int,
        nargs='+',
        default=[4096, 16384, 65536, 262144],
    )
    model(command(step))
    sub = images(command(data))
    sub.add_argument('--size', type=int, default=224)
    sub.add_argument('--images', type=int, default=64, help='a round')
    sub = images(model(command(train)))
    sub.add_argument('--workers', type=int, default=16 if cuda else 1)
    sub.add_argument('--iters', type=int, default=20 if cuda else 4)
    sub = model(command(scale))
    sub.add_argument('--processes', type=int, default=2)
    sub.add_argument('--port', type=int, default=29611)
    sub = command(memory)
    sub.add_argument('--depth', type=int, default=50)
    sub.add_argument('--size', type=int, default=224)
    sub.add_argument(
        '--batches', type=int, nargs='+', default=[32, 64, 128, 256, 512]
    )
    sub.set_defaults(dtype='float16')
    return parser.parse_args(argv)


def main() -> None:
    """Run the comparison that was asked for."""
    args = parse_args()
    quiet()
    torch.manual_seed(0)
    title, rows, baseline, images, ratios = args.call(args)
    show(title, rows, baseline, images)
    for name, value in ratios.items():
        print(f'{name}: {value:.3g}')
    if args.json:
        settings = {k: v for k, v in vars(args).items() if k != 'call'}
        write(args.json, settings, rows, ratios)


if __name__ == '__main__':
    run_tool(main)
