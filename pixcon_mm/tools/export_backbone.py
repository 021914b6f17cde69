"""Write the backbone of a checkpoint for another library to read."""

import argparse
import hashlib
from pathlib import Path

from torch import Tensor

from pixcon_mm import __version__
from pixcon_mm.checkpoint.backbone import backbone_tensors
from pixcon_mm.checkpoint.export import (
    SUFFIXES,
    encode,
    nested_resnets,
    rename,
    resnet_depth,
)
from pixcon_mm.checkpoint.load import load_tensors, sha256_of
from pixcon_mm.errors import UserError, run_tool
from pixcon_mm.files import atomic_write, check_out

# Detectron2's defaults are for its own weights: BGR, unscaled, stride in the
# 1x1 convolution, batch norms and the first layers frozen.
DETECTRON2 = """Detectron2 needs these settings beside the file:
  MODEL.WEIGHTS {out} \\
  MODEL.RESNETS.DEPTH {depth} MODEL.RESNETS.STRIDE_IN_1X1 False \\{width}
  MODEL.RESNETS.NORM SyncBN MODEL.BACKBONE.FREEZE_AT 0 \\
  INPUT.FORMAT RGB \\
  MODEL.PIXEL_MEAN '[123.675,116.28,103.53]' \\
  MODEL.PIXEL_STD '[58.395,57.12,57.375]'"""
BASIC_BLOCKS = '\n  MODEL.RESNETS.RES2_OUT_CHANNELS 64 \\'


def main(argv: list[str] | None = None) -> None:
    """Find the backbone, rename it, write it, report what was written."""
    args = parse_args(argv)
    out = args.out or args.checkpoint.with_name(
        f'{args.checkpoint.stem}_{args.format}{SUFFIXES[args.format][0]}'
    )
    check_name(out, args.checkpoint, args.format)
    backbone = find_backbone(args.checkpoint, args.prefix)
    depth = resnet_depth(backbone)
    tensors = rename(backbone, args.format)
    notes = dict(
        source=args.checkpoint.name,
        source_sha256=sha256_of(args.checkpoint),
        writer=f'pixcon_mm {__version__}',
    )
    if depth:
        notes['architecture'] = f'resnet{depth}'
    content = encode(tensors, args.format, notes)
    atomic_write(out, content)
    print(
        f'wrote {out} ({args.format}, {len(tensors)} tensors, '
        f'sha256 {hashlib.sha256(content).hexdigest()})'
    )
    if args.format == 'detectron2':
        width = BASIC_BLOCKS if depth < 50 else ''
        print(DETECTRON2.format(out=out, depth=depth, width=width))


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'checkpoint',
        type=Path,
        help='checkpoint of pre-training, or any with a ResNet',
    )
    parser.add_argument('--format', required=True, choices=SUFFIXES)
    parser.add_argument(
        '--out', type=Path, help='default: beside the checkpoint'
    )
    parser.add_argument(
        '--prefix',
        help='names of the backbone in a checkpoint from elsewhere begin '
        "with this, for instance 'module.encoder_q.'",
    )
    args = parser.parse_args(argv)
    # As in OpenMMLab's init_cfg, the dot may be left out.
    if args.prefix and not args.prefix.endswith('.'):
        args.prefix += '.'
    return args


def check_name(out: Path, checkpoint: Path, file_format: str) -> None:
    """Refuse a file that would not be read, and the checkpoint itself."""
    check_out(out)
    if out.exists() and checkpoint.exists() and out.samefile(checkpoint):
        raise UserError(
            f'--out {out} is the checkpoint itself, which would be lost: '
            'name another file.'
        )
    # Detectron2, timm and torch choose their reader by the suffix.
    if out.suffix not in SUFFIXES[file_format]:
        raise UserError(
            f'--out {out}: --format {file_format} is read only from files '
            f'named *{" or *".join(SUFFIXES[file_format])}.'
        )


def find_backbone(checkpoint: Path, prefix: str | None) -> dict[str, Tensor]:
    """Return the tensors of the backbone under bare names."""
    tensors = load_tensors(checkpoint)
    backbone = backbone_tensors(tensors, prefix)
    places = nested_resnets(tensors)
    if resnet_depth(backbone) is None and places:
        raise UserError(
            f'{checkpoint} has a ResNet under '
            f'{" and one under ".join(map(repr, places))}: choose with '
            f'--prefix {places[0]!r}.'
        )
    return backbone


if __name__ == '__main__':
    run_tool(main)
