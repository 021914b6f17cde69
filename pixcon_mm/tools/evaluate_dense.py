"""Evaluate the dense features of a frozen backbone; write JSON."""

import argparse
import json
import math
import os
import time
from itertools import chain
from pathlib import Path

import torch

from pixcon_mm import __version__
from pixcon_mm.cli import at_least
from pixcon_mm.config import parse_names
from pixcon_mm.errors import run_tool
from pixcon_mm.evaluation.backbones import find_device, load_backbone
from pixcon_mm.files import atomic_write, check_out

NAMES = ('knn', 'linear', 'cluster', 'corloc', 'correspondence')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    # Plans check names of options, so short forms would get past them.
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add(
        'arch',
        metavar='CONFIG_OR_ARCH',
        help='config with a backbone, or a model of torchvision (resnet50) '
        'or timm (timm:resnet50)',
    )
    add(
        '--pretrained',
        required=True,
        metavar='FILE|torchvision|none',
        help="a checkpoint or other file of weights, torchvision's "
        'supervised ResNet, or none (random)',
    )
    add(
        '--prefix',
        help="prefix of the backbone's tensors, if they are not found",
    )
    add(
        '--data',
        required=True,
        type=Path,
        help='folder of VOC, Cityscapes, ADE20K, COCO-panoptic, or of masks '
        'of your own (docs/your_data.md); for correspondence alone, any '
        'folder of images',
    )
    add(
        '--protocols',
        nargs='+',
        default=['knn', 'correspondence'],
        choices=NAMES,
        help='see docs/evaluation.md (knn correspondence)',
    )
    add(
        '--out',
        type=Path,
        help='JSON; default: dense_NAME.json in work_dirs/, where NAME has '
        'the weights, the data and the stride',
    )
    add(
        '--stride',
        type=at_least(1),
        help='dilate a CNN to this stride: 16 or 8',
    )
    add(
        '--size',
        type=at_least(1),
        nargs='+',
        metavar='PIXELS',
        help='side of the images, or height and width (knn 512, others 448)',
    )
    add(
        '--crop-size',
        type=at_least(1),
        default=224,
        help='side of the crops for correspondence (224)',
    )
    add(
        '--classes',
        type=_names,
        nargs='+',
        help='class names to evaluate (all), also with commas: a,b,c; for '
        'masks of your own, the names of all classes, in the order of their '
        'numbers',
    )
    add(
        '--mask-values',
        type=_numbers,
        nargs='+',
        help='for masks of your own, the value of each class, if these are '
        'not 0, 1, 2, ...; other values are ignored',
    )
    add(
        '--train-split',
        default='train',
        help="list of the training images, such as VOC's trainaug",
    )
    add('--val-split', default='val', help='list of the images to test')
    add('--train-images', type=at_least(1), help='take this many at random')
    add('--val-images', type=at_least(1), help='take this many at random')
    add(
        '--mask-size',
        type=at_least(1),
        help='side of the square that masks are resized to (full resolution)',
    )
    add('--k', type=at_least(1), default=30, help='nearest neighbours (30)')
    add(
        '--temperature',
        type=float,
        default=0.02,
        help='temperature of the softmax over the neighbours (0.02)',
    )
    add(
        '--memory',
        type=at_least(0),
        default=102400,
        help='largest number of training cells (102400), 0 for all',
    )
    add(
        '--shares',
        type=at_least(1),
        nargs='+',
        default=[1],
        metavar='N',
        help='use 1/N of the training images, for each N, such as 1 8 64 128',
    )
    add(
        '--linear-epochs',
        type=at_least(1),
        default=25,
        help='passes over the training images for linear (25)',
    )
    add(
        '--clusters',
        type=at_least(1),
        default=500,
        help='number of clusters (500)',
    )
    add(
        '--seed',
        type=at_least(0),
        default=0,
        help='seed of samples, crops and random weights (0)',
    )
    add(
        '--batch-size',
        type=at_least(1),
        default=16,
        help='images per batch (16)',
    )
    add(
        '--workers',
        type=at_least(0),
        default=2,
        help='processes that read images',
    )
    add('--device', help='default: cuda if available, else cpu')
    args = parser.parse_args(argv)
    for name in ('classes', 'mask_values'):
        words = getattr(args, name)
        setattr(args, name, words and [*chain(*words)])
    if args.classes == []:
        parser.error('--classes names no class')
    if len(args.size or ()) > 2:
        parser.error('--size takes one number, or height and width')
    if not 0 < args.temperature < math.inf:
        parser.error('--temperature must be above 0')
    return args


def _names(text: str) -> tuple[str, ...]:
    # MMSegmentation's name for a class of ADE20K is 'bed ', with the space.
    is_list = ',' in text or text[:1] in ('(', '[')
    return parse_names(text) if is_list else (text,)


def _numbers(text: str) -> list[int]:
    try:
        return [*map(int, text.split(','))]
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f'{text!r} is not a list of integers, such as 0,255'
        ) from error


def default_out(args: argparse.Namespace) -> Path:
    """Return a path for results without ``--out``.

    It names the weights, the data and the stride. Evaluations that differ in
    other options, such as the protocols or the seed, overwrite each other.

    Example:
        >>> line = ['resnet50', '--pretrained', 'runs/pixcon/epoch_800.pth']
        >>> str(default_out(parse_args([*line, '--data', 'data/coco'])))
        'work_dirs/dense_pixcon_epoch_800_coco.json'
    """
    arch = Path(args.arch).name.removesuffix('.py').replace(':', '_')
    parts = [arch, args.pretrained]
    if args.pretrained not in ('none', 'torchvision'):
        file = Path(os.path.abspath(args.pretrained))
        parts = [file.parent.name, file.stem]
    parts.append(Path(os.path.abspath(args.data)).name)
    if args.stride:
        parts.append(f'stride{args.stride}')
    return Path('work_dirs', f'dense_{"_".join(parts)}.json')


def main(argv: list[str] | None = None) -> None:
    """Run the protocols, and write their results with all settings."""
    args = parse_args(argv)
    out = args.out or default_out(args)
    check_out(out)
    args.device = find_device(args.device)
    backbone = load_backbone(
        *(args.arch, args.pretrained, args.stride, args.prefix, args.seed)
    ).to(args.device)
    known = backbone.describe()
    mean, std = (
        ' '.join(f'{value:.1f}' for value in known[key])
        for key in ('mean', 'std')
    )
    order = known['channel_order']
    print(f'input: {order}, minus {mean}, divided by {std}')
    # Imports MMPretrain, which takes seconds.
    from pixcon_mm.evaluation.protocols import PROTOCOLS, prepare

    # All mistakes are found before the long work starts.
    prepared = {name: prepare(args, backbone, name) for name in args.protocols}
    results = {}
    for protocol, data in prepared.items():
        start = time.monotonic()
        results[protocol] = PROTOCOLS[protocol](args, backbone, data)
        results[protocol]['seconds'] = round(time.monotonic() - start, 1)
    settings = {k: v for k, v in vars(args).items() if k != 'out'}
    report = dict(
        backbone=known,
        settings={**settings, 'data': str(args.data)},
        results=results,
        writer=f'pixcon_mm {__version__}, torch {torch.__version__}',
    )
    atomic_write(out, f'{json.dumps(report, indent=2)}\n'.encode())
    print(f'results in {out}')


if __name__ == '__main__':
    run_tool(main)
