"""Evaluate a frozen backbone densely; write the results as JSON."""

import argparse
import json
import time
from pathlib import Path

import torch

from pixcon_mm import __version__
from pixcon_mm.errors import UserError, run_tool
from pixcon_mm.evaluation.backbones import FrozenBackbone, load_backbone
from pixcon_mm.evaluation.features import check_size
from pixcon_mm.files import atomic_write, check_out

PROTOCOLS = ('knn', 'correspondence')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
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
    add('--prefix', help='where a foreign file has the backbone')
    add(
        '--data',
        required=True,
        type=Path,
        help='tree of VOC, Cityscapes, ADE20K or COCO-panoptic; for '
        'correspondence alone any folder of images',
    )
    add(
        '--protocols',
        nargs='+',
        default=['knn', 'correspondence'],
        choices=PROTOCOLS,
    )
    add('--out', type=Path, help='JSON; default: dense.json in work_dirs/')
    add('--stride', type=int, help='dilate a CNN to it: 16, 8')
    add(
        '--size',
        type=int,
        nargs='+',
        default=[512],
        metavar='PIXELS',
        help='side of the images, or height and width (512)',
    )
    add(
        '--crop-size',
        type=int,
        default=224,
        help='side of the crops of correspondence (224)',
    )
    add('--classes', nargs='+', help='names of those that count (all)')
    add('--train-split', default='train', help="VOC's list, as trainaug")
    add('--val-split', default='val')
    add('--train-images', type=int, help='take this many at random')
    add('--val-images', type=int, help='take this many at random')
    add(
        '--mask-size',
        type=int,
        help='compare at this square size (100) and not that of the photos',
    )
    add('--k', type=int, default=30, help='nearest neighbours (30)')
    add('--temperature', type=float, default=0.02, help='of theirs (0.02)')
    add(
        '--memory',
        type=int,
        default=102400,
        help='most training cells (102400), 0 for all',
    )
    add(
        '--shares',
        type=int,
        nargs='+',
        default=[1],
        metavar='N',
        help='take 1/N of the training images: 1 8 64 128',
    )
    add('--seed', type=int, default=0)
    add('--batch-size', type=int, default=16)
    add('--workers', type=int, default=2, help='processes that read images')
    add('--device', help='default: cuda if there is one, else cpu')
    args = parser.parse_args(argv)
    if len(args.size) > 2:
        parser.error('--size takes one number, or height and width')
    args.size = (args.size[0], args.size[-1])
    if args.device is None:
        args.device = 'cuda' if torch.cuda.is_available() else 'cpu'
    at_least = dict(k=1, memory=0, crop_size=1, batch_size=1, workers=0)
    for name, least in at_least.items():
        if getattr(args, name) < least:
            parser.error(f'--{name.replace("_", "-")} is at least {least}')
    if args.temperature <= 0 or min(args.shares) < 1:
        parser.error('--temperature is above 0, and --shares are at least 1')
    return args


def main(argv: list[str] | None = None) -> None:
    """Evaluate, and write the results with all settings."""
    args = parse_args(argv)
    name = 'none' if args.pretrained == 'none' else Path(args.pretrained).stem
    out = args.out or Path('work_dirs') / f'dense_{name}.json'
    check_out(out)
    backbone = load_backbone(
        *(args.arch, args.pretrained, args.stride, args.prefix, args.seed)
    ).to(args.device)
    check_size(args.size, backbone.stride)
    sides = (args.crop_size, args.crop_size)
    check_size(sides, backbone.stride, '--crop-size')
    results = {}
    runs = dict(knn=run_knn, correspondence=run_correspondence)
    for protocol in args.protocols:
        start = time.monotonic()
        results[protocol] = runs[protocol](args, backbone)
        results[protocol]['seconds'] = round(time.monotonic() - start, 1)
    settings = {k: v for k, v in vars(args).items() if k not in ('out',)}
    report = dict(
        backbone=backbone.describe(),
        settings={**settings, 'data': str(args.data)},
        results=results,
        writer=f'pixcon_mm {__version__}, torch {torch.__version__}',
    )
    atomic_write(out, f'{json.dumps(report, indent=2)}\n'.encode())
    print(f'results in {out}')


def loading(args: argparse.Namespace, title: str) -> dict:
    """Return what is the same for every pass over images."""
    return dict(batch_size=args.batch_size, workers=args.workers, title=title)


def choose(count: int, wanted: int | None, seed: int) -> list[int]:
    """Draw some of ``count`` samples, the same and nested for a seed."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(count, generator=generator).tolist()
    return order[: count if wanted is None else wanted]


def run_knn(args: argparse.Namespace, backbone: FrozenBackbone) -> dict:
    """Evaluate dense nearest neighbours for each share of the labels."""
    from pixcon_mm.evaluation import nearest_neighbors
    from pixcon_mm.evaluation.dense_data import DenseData

    train = DenseData(args.data, args.train_split, args.size, args.classes)
    val = DenseData(args.data, args.val_split, args.size, args.classes)
    order = choose(len(train), args.train_images, args.seed)
    tested = choose(len(val), args.val_images, args.seed)
    found = {}
    for share in args.shares:
        labelled = order[: max(round(len(order) / share), 1)]
        memory = nearest_neighbors.build_memory(
            *(backbone, train, labelled, args.memory or None, args.seed),
            **loading(args, f'memory of 1/{share}'),
        )
        metrics = nearest_neighbors.evaluate(
            *(backbone, val, tested, memory),
            *(args.k, args.temperature, args.mask_size),
            **loading(args, 'nearest neighbours'),
        )
        found[f'1/{share}'] = dict(
            train_images=len(labelled),
            memory=len(memory.features),
            **metrics,
        )
        print(f'nearest neighbours, 1/{share}: mIoU {metrics["miou"]:.2f}')
        del memory
    return dict(
        tree=train.kind,
        classes=train.classes,
        val_images=len(tested),
        shares=found,
    )


def run_correspondence(
    args: argparse.Namespace, backbone: FrozenBackbone
) -> dict:
    """Match crops of the validation images, or of any folder of images."""
    from pixcon_mm.datasets.listing import list_images, readable_suffixes
    from pixcon_mm.evaluation import correspondence
    from pixcon_mm.evaluation.dense_data import DenseData, tree_of

    try:
        tree_of(args.data)
    except UserError:
        if not args.data.is_dir():
            raise
        paths = [
            Path(path)
            for path in list_images(str(args.data), readable_suffixes(), set())
        ]
    else:
        val = DenseData(args.data, args.val_split, args.size)
        paths = [image for image, _ in val.pairs]
    paths = [paths[i] for i in choose(len(paths), args.val_images, args.seed)]
    if not paths:
        raise UserError(f'There are no images in {args.data}.')
    found = correspondence.evaluate(
        *(backbone, paths, args.crop_size, args.seed),
        **loading(args, 'correspondence'),
    )
    print(
        f'correspondence: recall at 1 {found["recall_at_1"]:.3f} (chance '
        f'{found["chance_at_1"]:.3f}), within one cell '
        f'{found["recall_within_1_cell"]:.3f} (chance '
        f'{found["chance_within_1_cell"]:.3f})'
    )
    return dict(images=len(paths), area_range=correspondence.AREA, **found)


if __name__ == '__main__':
    run_tool(main)
