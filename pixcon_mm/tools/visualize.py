"""Draw what a network sees, matches and finds similar in photographs.

OUT gets a PNG file for each figure, and index.html with all of them.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.dataset import Compose, default_collate
from mmengine.registry import DATASETS, MODELS, DefaultScope
from torch import nn

from pixcon_mm import __version__
from pixcon_mm.checkpoint.load import load_weights
from pixcon_mm.cli import import_framework, quiet
from pixcon_mm.config import load_config
from pixcon_mm.engine.hooks.pretrained_hook import fill_model
from pixcon_mm.errors import UserError, run_tool
from pixcon_mm.evaluation.backbones import FrozenBackbone, load_backbone
from pixcon_mm.evaluation.clustering import check_faiss, cluster
from pixcon_mm.evaluation.features import dense_features
from pixcon_mm.files import atomic_write, check_out
from pixcon_mm.tools.predict import list_images
from pixcon_mm.visualization.predictions import spread

PAIRS = ('crops', 'matches', 'weights')  # of a model of PixCon
FRAMES = ('similarity', 'pca', 'segments')  # of any backbone
# Figures by heading and by name of the image, '' for all images.
Sections = dict[str, dict[str, Figure]]
DRAWS = 3  # of each photograph, with --browse


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add(
        'arch',
        metavar='CONFIG_OR_ARCH',
        help='config of a pre-training; or, for similarity, pca and segments, '
        'any config with a backbone, or a model of torchvision (resnet50) or '
        'timm (timm:resnet50)',
    )
    add(
        'images',
        nargs='*',
        type=Path,
        help="images, or folders of images; default: the config's",
    )
    add(
        '--pretrained',
        metavar='FILE|torchvision|none',
        help="a checkpoint or other file of weights, torchvision's "
        'supervised ResNet, or none (random)',
    )
    add('--browse', action='store_true', help='draw what the pipeline gives')
    add('--out', type=Path, default=Path('work_dirs/look'))
    add('--figures', nargs='+', choices=(*PAIRS, *FRAMES), help='only these')
    add('--max-images', type=int, default=8, help='spread evenly (8)')
    add(
        '--point',
        type=float,
        nargs=2,
        default=(0.5, 0.5),
        metavar=('X', 'Y'),
        help='where similarity has its cell, as shares of width and height '
        '(0.5 0.5)',
    )
    add('--clusters', type=int, default=8, help='of segments (8)')
    add('--side', type=int, default=448, help='longer side, pixels (448)')
    add('--stride', type=int, help='dilate a CNN to it: 16, 8')
    add('--seed', type=int, default=0, help='of crops and random weights')
    add('--device', help='default: cuda if there is one, else cpu')
    args = parser.parse_args(argv)
    if args.browse == bool(args.pretrained):
        parser.error('give either --pretrained or --browse')
    if not all(0 <= share < 1 for share in args.point):
        parser.error('--point takes shares from 0 to below 1')
    if min(args.max_images, args.clusters, args.side) < 1:
        parser.error('--max-images, --clusters and --side are at least 1')
    if args.device is None:
        args.device = 'cuda' if torch.cuda.is_available() else 'cpu'
    return args


def main(argv: list[str] | None = None) -> None:
    """Draw the figures and write the page."""
    args = parse_args(argv)
    check_out(args.out / 'index.html')
    cfg = read_config(args.arch) if args.arch.endswith('.py') else None
    names = choose_images(args, cfg)
    facts = dict(config=args.arch, images=', '.join(map(str, names)))
    if args.browse:
        sections = browse(args, cfg, names)
    else:
        sections, facts['weights'] = look(args, cfg, names)
    facts['writer'] = f'pixcon_mm {__version__}'
    # Imports the drawing, which takes a moment.
    from pixcon_mm.visualization.page import as_png, html_page

    pictures: dict[str, list[tuple[str, bytes]]] = {}
    for heading, figures in sections.items():
        pictures[heading] = []
        for name, figure in figures.items():
            png = as_png(figure)
            stem = '_'.join([heading, *filter(None, name.split('/'))])
            atomic_write(args.out / f'{stem}.png', png)
            pictures[heading].append((name, png))
    page = html_page('What the network sees', facts, pictures)
    atomic_write(args.out / 'index.html', page.encode())
    count = sum(map(len, pictures.values()))
    print(f'Drawn {count} times, to {args.out}; index.html has all figures')


def read_config(path: str) -> Config:
    """Read a config, and import its framework."""
    with quiet():
        cfg = load_config(path)
        import_framework(cfg.setdefault('default_scope', 'mmpretrain'))
    return cfg


def build_model(cfg: Config, seed: int) -> tuple[nn.Module, Compose]:
    """Build the model of a pre-training, random, and its pipeline."""
    try:
        steps = cfg.train_dataloader.dataset.pipeline
    except AttributeError as error:
        raise UserError(
            f'{cfg.filename} has no train_dataloader.dataset.pipeline: name '
            'a config of a pre-training.'
        ) from error
    with (
        quiet(),
        DefaultScope.overwrite_default_scope(cfg.default_scope),
        torch.random.fork_rng(devices=[]),
    ):
        torch.manual_seed(seed)
        model = MODELS.build(cfg.model)
        model.init_weights()
        return model, Compose(steps)


def choose_images(
    args: argparse.Namespace, cfg: Config | None
) -> dict[Path, str]:
    """List the images to draw, with a name for each."""
    if args.images:
        names = list_images(args.images)
    elif cfg is None or not cfg.get('train_dataloader'):
        raise UserError(f'{args.arch} names no images: give some.')
    else:
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            dataset = DATASETS.build(cfg.train_dataloader.dataset)
        chosen = spread(args.max_images, len(dataset))
        names = list_images(
            [Path(dataset.get_data_info(i)['img_path']) for i in chosen]
        )
    paths = list(names)
    return {
        paths[i]: names[paths[i]] for i in spread(args.max_images, len(paths))
    }


def browse(
    args: argparse.Namespace, cfg: Config | None, names: dict[Path, str]
) -> Sections:
    """Draw what the pipeline of a config feeds its model."""
    from pixcon_mm.visualization.figures import browse_figure
    from pixcon_mm.visualization.matching import make_views, shown_views

    if cfg is None:
        raise UserError(f'--browse needs a config, and {args.arch} is none.')
    model, pipeline = build_model(cfg, args.seed)
    preprocessor = model.data_preprocessor.to(args.device)
    draws = []
    for draw in range(DRAWS):
        seed = args.seed + draw
        samples = [make_views(pipeline, path, seed) for path in names]
        inputs = preprocessor(default_collate(samples), True)['inputs']
        if not isinstance(inputs, list | tuple):
            raise UserError(
                f'{args.arch} makes no views: --browse is for pre-trainings.'
            )
        draws.append(shown_views(preprocessor, list(inputs)))
    figure = browse_figure(np.stack(draws, axis=1), list(names.values()))
    return {'views': {'': figure}}


def look(
    args: argparse.Namespace, cfg: Config | None, names: dict[Path, str]
) -> tuple[Sections, str]:
    """Draw all figures that were asked for; say which weights they are of."""
    is_pixcon = cfg is not None and cfg.model.type == 'PixCon'
    wanted = args.figures or [*(PAIRS if is_pixcon else ()), *FRAMES]
    if not is_pixcon and set(wanted) & set(PAIRS):
        raise UserError(
            f'--figures {" ".join(PAIRS)} show how PixCon matches: '
            f'{args.arch} is no recipe of it; leave them out.'
        )
    if 'segments' in wanted:
        check_faiss()
    backbone = load_backbone(
        args.arch, args.pretrained, args.stride, seed=args.seed
    ).to(args.device)
    sections: Sections = {}
    lines = [str(backbone.origin['pretrained'])]
    if set(wanted) & set(PAIRS):
        model, pipeline = build_model(cfg, args.seed)
        if args.pretrained in ('none', 'torchvision'):
            tensors = backbone.net.state_dict()
        else:
            tensors = load_weights(args.pretrained).tensors
        lines = fill_model(model, tensors, lines[0])
        model.to(args.device)
        sections |= draw_pairs(args, model, pipeline, names)
    if set(wanted) & set(FRAMES):
        sections |= draw_features(args, backbone, names)
    for line in lines:
        print(line)
    return {kind: sections[kind] for kind in wanted}, '; '.join(lines)


def draw_pairs(
    args: argparse.Namespace,
    model: nn.Module,
    pipeline: Compose,
    names: dict[Path, str],
) -> Sections:
    """Draw crops, matches and weights of two views of each image."""
    from pixcon_mm.visualization.figures import PAIR_FIGURES
    from pixcon_mm.visualization.matching import match_photographs

    pairs = match_photographs(model, pipeline, list(names), args.seed)
    return {
        kind: dict(zip(names.values(), map(draw, pairs), strict=True))
        for kind, draw in PAIR_FIGURES.items()
    }


def draw_features(
    args: argparse.Namespace, backbone: FrozenBackbone, names: dict[Path, str]
) -> Sections:
    """Draw the figures of frozen features of whole images."""
    from pixcon_mm.datasets.transforms import resize
    from pixcon_mm.evaluation.dense_data import read_image
    from pixcon_mm.visualization.features import (
        principal_colors,
        similarity_map,
        unit_rows,
    )
    from pixcon_mm.visualization.figures import (
        pca_figure,
        segments_figure,
        similarity_figure,
    )

    images, maps = [], []
    for path in names:
        pixels = read_image(path)[0].permute(1, 2, 0).numpy()
        scale = args.side / max(pixels.shape) / backbone.stride
        height, width = (
            max(round(side * scale), 1) * backbone.stride
            for side in pixels.shape[:2]
        )
        images.append(resize(pixels, (width, height), 'bilinear'))
        maps.append(dense_features(backbone, images[-1]))
    found: Sections = {}
    x, y = args.point
    figures = {}
    for i, name in enumerate(names.values()):
        two = [i, (i + 1) % len(maps)][: len(maps)]
        _, rows, columns = maps[i].shape
        cell = int(y * rows), int(x * columns)
        figures[name] = similarity_figure(
            [images[j] for j in two],
            [similarity_map(maps[i], cell, maps[j]) for j in two],
            cell,
        )
    found['similarity'] = figures
    found['pca'] = {'': pca_figure(images, *principal_colors(maps))}
    if not args.figures or 'segments' in args.figures:
        rows = [unit_rows(features).cpu().numpy() for features in maps]
        ids = cluster(np.concatenate(rows), args.clusters, args.seed).numpy()
        ends = np.cumsum([len(part) for part in rows])[:-1]
        parts = [
            part.reshape(features.shape[1:])
            for part, features in zip(np.split(ids, ends), maps, strict=True)
        ]
        found['segments'] = {'': segments_figure(images, parts, args.clusters)}
    return found


if __name__ == '__main__':
    run_tool(main)
