"""Write the backbone of a checkpoint in the format of another library."""

import argparse
import hashlib
import re
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
from pixcon_mm.checkpoint.hugging_face import FILES, folder_files
from pixcon_mm.checkpoint.load import load_tensors, sha256_of
from pixcon_mm.engine.model_state import find_non_finite
from pixcon_mm.errors import UserError, check_installed, run_tool
from pixcon_mm.evaluation.backbones import load_backbone
from pixcon_mm.evaluation.onnx_file import to_onnx
from pixcon_mm.files import atomic_write, check_folder, check_out

# A folder has no suffix.
FORMATS = {**SUFFIXES, 'huggingface': ('',), 'onnx': ('.onnx',)}
# Detectron2's defaults fit its own weights: BGR, pixels not scaled, stride in
# the 1x1 convolution, frozen batch norms and frozen first layers.
DETECTRON2 = """Detectron2 needs these settings for the file:
  MODEL.WEIGHTS {out} \\
  MODEL.RESNETS.DEPTH {depth} MODEL.RESNETS.STRIDE_IN_1X1 False \\{width}
  MODEL.RESNETS.NORM SyncBN MODEL.BACKBONE.FREEZE_AT 0 \\
  INPUT.FORMAT RGB \\
  MODEL.PIXEL_MEAN '[123.675,116.28,103.53]' \\
  MODEL.PIXEL_STD '[58.395,57.12,57.375]'"""
BASIC_BLOCKS = '\n  MODEL.RESNETS.RES2_OUT_CHANNELS 64 \\'


def main(argv: list[str] | None = None) -> None:
    """Find the backbone, rename its tensors, and write it."""
    args = parse_args(argv)
    out = args.out or args.checkpoint.with_name(
        f'{args.checkpoint.stem}_{args.format}{FORMATS[args.format][0]}'
    )
    check_name(out, args.checkpoint, args.format)
    if args.format == 'onnx':
        check_installed('--format onnx', 'export', 'onnx', 'onnxruntime')
        backbone = load_backbone(
            args.arch, args.checkpoint, prefix=args.prefix
        )
        check_out(out)
        content, error = to_onnx(backbone)
        write(out, content, f'onnx, like PyTorch within {error:.0e}')
        return
    bare = read_backbone(args.checkpoint, args.prefix)
    depth = resnet_depth(bare)
    tensors = rename(bare, args.format)
    notes = dict(
        source=args.checkpoint.name,
        source_sha256=sha256_of(args.checkpoint),
        writer=f'pixcon_mm {__version__}',
    )
    if depth:
        notes['architecture'] = f'resnet{depth}'
    if args.format == 'huggingface':
        check_folder(out)
        files = folder_files(tensors, notes)
        card = out / 'README.md'
        if card.exists():  # perhaps with what somebody has added
            del files[card.name]
        for name, content in files.items():
            write(out / name, content, 'huggingface')
        if card.name in files:
            print(f'Before publishing, add training and licence to {card}.')
        else:
            print(
                f'kept {card}, which may name other weights: remove it first '
                'to get a new one'
            )
        return
    check_out(out)
    content = encode(tensors, args.format, notes)
    write(out, content, f'{args.format}, {len(tensors)} tensors')
    if args.format == 'detectron2':
        width = BASIC_BLOCKS if depth < 50 else ''
        print(DETECTRON2.format(out=out, depth=depth, width=width))


def write(path: Path, content: bytes, what: str) -> None:
    """Write a file, and print its path and digest."""
    atomic_write(path, content)
    sha256 = hashlib.sha256(content).hexdigest()
    print(f'wrote {path} ({what}, sha256 {sha256})')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'checkpoint',
        type=Path,
        help='checkpoint of a pre-training, or any other with a backbone',
    )
    parser.add_argument('--format', required=True, choices=FORMATS)
    parser.add_argument(
        '--out', type=Path, help='default: in the folder of the checkpoint'
    )
    parser.add_argument(
        '--arch',
        metavar='CONFIG_OR_ARCH',
        help='for onnx: config with a backbone, or a model of torchvision '
        '(resnet50) or timm (timm:resnet50)',
    )
    parser.add_argument(
        '--prefix',
        help="prefix of the backbone's tensors, for checkpoints in an unknown "
        "format, such as 'module.encoder_q.'",
    )
    args = parser.parse_args(argv)
    if (args.format == 'onnx') != bool(args.arch):
        parser.error('--format onnx needs --arch, which no other format takes')
    return args


def check_name(out: Path, checkpoint: Path, file_format: str) -> None:
    """Stop if the file is the checkpoint, or if its suffix is wrong."""
    is_folder = file_format == 'huggingface'
    for file in [out / name for name in FILES] if is_folder else [out]:
        if file.exists() and checkpoint.exists() and file.samefile(checkpoint):
            raise UserError(
                f'{file} is the checkpoint itself, which would be lost: name '
                f'another {"folder" if is_folder else "file"} with --out.'
            )
    # Detectron2, timm and torch choose how to read a file by its suffix.
    if not is_folder and out.is_dir():
        raise UserError(f'--out {out} is a folder: name a file in it.')
    if not is_folder and out.suffix not in FORMATS[file_format]:
        raise UserError(
            f'--out {out}: files for --format {file_format} must be named '
            f'*{" or *".join(FORMATS[file_format])} to be readable.'
        )


def read_backbone(checkpoint: Path, prefix: str | None) -> dict[str, Tensor]:
    """Return the tensors of the backbone, under names without a prefix."""
    tensors = load_tensors(checkpoint)
    backbone = backbone_tensors(tensors, prefix)
    places = nested_resnets(tensors)
    if resnet_depth(backbone) is None and places:
        raise UserError(
            f'{checkpoint} has a ResNet under '
            f'{" and one under ".join(map(repr, places))}: choose with '
            f'--prefix {places[0]!r}.'
        )
    # Names from which no known prefix was removed, but which have one.
    nested = [
        name
        for name in backbone
        if name in tensors and re.search(r'\b(module|backbone)\.', name)
    ]
    if prefix is None and nested:
        raise UserError(
            f'{checkpoint} has its backbone under a prefix, as in '
            f'{nested[0]!r}: name it with --prefix.'
        )
    floats = {
        k: v.float() for k, v in backbone.items() if v.is_floating_point()
    }
    bad = find_non_finite(floats)
    if bad:
        raise UserError(
            f'{checkpoint} holds NaN or infinite values in {bad[0]!r}: the '
            'training that wrote them has diverged, so export an earlier '
            'checkpoint of it.'
        )
    return backbone


if __name__ == '__main__':
    run_tool(main)
