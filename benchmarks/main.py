"""Measure the speed and memory of training, and compare alternatives.

    python tools/benchmark.py loss                 # InfoNCE by backend
    python tools/benchmark.py queue                # InfoNCE by queue length
    python tools/benchmark.py step                 # the whole training step
    python tools/benchmark.py data --data FOLDER   # the loader, on one core
    python tools/benchmark.py train --data FOLDER  # loader and step together
    python tools/benchmark.py scale                # two processes against one
    python tools/benchmark.py kernels              # a profile of our step
    python tools/benchmark.py memory               # a trace, without a GPU
    python tools/benchmark.py gpu --out FOLDER     # all checks for one GPU
    python tools/benchmark.py docs FOLDER          # write results of gpu

Every figure is a median over rounds in which all alternatives take turns.
Sizes are those of the recipe on CUDA, and small on a CPU. Peak memory is the
peak during a call minus the memory before it.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.registry import init_default_scope

from benchmarks.data import data
from benchmarks.gpu import PART_LIMIT, PARTS, gpu
from benchmarks.gpu_report import docs
from benchmarks.kernels import kernels
from benchmarks.loss import loss, queue
from benchmarks.memory import memory
from benchmarks.report import Report
from benchmarks.scale import scale
from benchmarks.step import step
from benchmarks.train import train
from pixcon_mm.cli import quiet

CUDA = torch.cuda.is_available()
LENGTHS = [4096, 16384, 65536, 262144]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; on CUDA, defaults are the recipe's sizes."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest='command', required=True)

    def command(call: Callable[..., Report]) -> Callable:
        sub = commands.add_parser(call.__name__, help=call.__doc__)
        sub.set_defaults(call=call)
        add = sub.add_argument
        add(
            '--device',
            choices=('cuda', 'cpu'),
            default='cuda' if CUDA else 'cpu',
        )
        add(
            '--dtype',
            default='float16' if CUDA else 'float32',
            choices=('float32', 'float16', 'bfloat16'),
            help='dtype of mixed precision; float32 for none',
        )
        add('--rounds', type=int, default=7)
        add('--json', type=Path, help='also write the figures to this file')
        add('--batch', type=int, default=256 if CUDA else 16)
        add('--queue', type=int, default=65536)
        return add

    for call in (loss, queue):
        add = command(call)
        add('--cells', type=int, default=49)
        add('--channels', type=int, default=128)
    add('--lengths', type=int, nargs='+', default=LENGTHS)
    for call in (step, train, scale, kernels):
        add = command(call)
        add('--depth', type=int, default=50 if CUDA else 18)
        add('--size', type=int, default=224 if CUDA else 128)
        add('--compile', action='store_true', help='torch.compile backbones')
        if call is step:
            add('--no-peers', action='store_true', help='ours and the limit')
        if call is train:
            add('--data', required=True, help='folder of images')
            add('--workers', type=int, default=16 if CUDA else 1)
            add('--iters', type=int, default=20 if CUDA else 4)
        if call is scale:
            add('--processes', type=int, default=2)
            add('--port', type=int, default=29611)
    # The recipe's sizes on any machine, because nothing is computed.
    add = command(memory)
    add('--depth', type=int, default=50)
    add('--size', type=int, default=224)
    recipe = dict(device='cpu', dtype='float16', batch=256, compile=False)
    commands.choices['memory'].set_defaults(**recipe)
    add = command(data)
    add('--data', required=True, help='folder of images')
    add('--size', type=int, default=224)
    add('--images', type=int, default=64, help='images per round')
    add(
        '--workers',
        type=int,
        default=0,
        help='processes of our loader; 0: compare loaders on one core',
    )
    sub = commands.add_parser('gpu', help=gpu.__doc__)
    sub.set_defaults(call=gpu)
    add = sub.add_argument
    add('--out', type=Path, required=True, help='folder of JSON and report')
    add('--part', nargs='+', choices=PARTS, help='parts to run (all three)')
    add('--data', help='folder of images (default: composed ones)')
    add('--small', action='store_true', help='small trial run on the CPU')
    add(
        '--resume',
        action='store_true',
        help='keep the steps in --out that have succeeded',
    )
    add('--limit', type=float, default=PART_LIMIT, help='seconds per part')
    sub = commands.add_parser('docs', help=docs.__doc__)
    sub.set_defaults(call=docs)
    sub.add_argument('folder', type=Path, help='--out of the gpu command')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run a measurement and show its table."""
    args = parse_args(argv)
    if args.call in (gpu, docs):
        args.call(args)
        return
    if CUDA:
        torch.backends.cudnn.benchmark = True  # as in the recipes
    torch.manual_seed(0)
    with quiet():
        init_default_scope('mmpretrain')
        report = args.call(args)
    report.show()
    if args.json:
        report.write(args.json, args)
