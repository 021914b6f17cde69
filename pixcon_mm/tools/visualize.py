"""Draw the views, matches and features of a network for photographs.

OUT gets a PNG file for each figure, in subfolders as the images are, and
index.html with all figures.
"""

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.registry import DATASETS, DefaultScope
from torch import Tensor

from pixcon_mm import __version__
from pixcon_mm.checkpoint.pretrained import Pretrained, fill_from, fill_model
from pixcon_mm.cli import at_least, parse_options, read_config
from pixcon_mm.datasets.listing import spread
from pixcon_mm.datasets.loading import name_images, readable_images
from pixcon_mm.datasets.transforms import resize
from pixcon_mm.errors import UserError, check_installed, run_tool
from pixcon_mm.evaluation.backbones import (
    FrozenBackbone,
    find_device,
    load_backbone,
)
from pixcon_mm.evaluation.clustering import cluster
from pixcon_mm.evaluation.dense_data import read_image
from pixcon_mm.evaluation.features import dense_features
from pixcon_mm.files import as_line, atomic_write, check_folder
from pixcon_mm.visualization.features import (
    principal_colors,
    similarity_map,
    unit_rows,
)
from pixcon_mm.visualization.figures import (
    PAIR_FIGURES,
    browse_figure,
    pca_figure,
    segments_figure,
    similarity_figure,
)
from pixcon_mm.visualization.matching import (
    build_model,
    make_views,
    match_photographs,
    shown_views,
)
from pixcon_mm.visualization.page import as_png, html_page

# Figures for any backbone; PAIR_FIGURES need a model of PixCon.
OF_FEATURES = ('similarity', 'pca', 'segments')
# Figures by heading and name of the image; the name is '' for all images.
Sections = dict[str, dict[str, Figure]]
DRAWS = 3  # number of draws of views per photograph, with --browse


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
        '--images',
        nargs='+',
        type=Path,
        metavar='PATH',
        help="images, or folders of images; default: the config's",
    )
    add(
        '--pretrained',
        metavar='FILE|torchvision|none',
        help="a checkpoint or other file of weights, torchvision's "
        'supervised ResNet, or none (random)',
    )
    add('--browse', action='store_true', help='draw views from the pipeline')
    add(
        '--out',
        type=Path,
        default=Path('work_dirs/look'),
        help='folder for figures and page (work_dirs/look)',
    )
    add(
        '--figures',
        nargs='+',
        choices=(*PAIR_FIGURES, *OF_FEATURES),
        help='figures to draw; default: all that the model has',
    )
    add(
        '--max-images',
        type=at_least(1),
        default=8,
        help='number of images (8)',
    )
    add(
        '--point',
        type=float,
        nargs=2,
        default=(0.5, 0.5),
        metavar=('X', 'Y'),
        help='place of the cell for similarity, as shares of width and height '
        '(0.5 0.5)',
    )
    add(
        '--clusters',
        type=at_least(1),
        default=8,
        help='number of segments (8)',
    )
    add(
        '--side',
        type=at_least(1),
        default=448,
        help='longer side of images for features, in pixels (448)',
    )
    add(
        '--stride',
        type=at_least(1),
        help='dilate a CNN to this stride: 16 or 8',
    )
    add(
        '--seed',
        type=at_least(0),
        default=0,
        help='seed of crops and of random weights',
    )
    add('--device', help='default: cuda if there is one, else cpu')
    args = parse_options(parser, argv)
    if args.cfg_options and not args.arch.endswith('.py'):
        parser.error('--cfg-options needs a config file')
    if args.browse == bool(args.pretrained):
        parser.error('give either --pretrained or --browse')
    if not all(0 <= share < 1 for share in args.point):
        parser.error('--point must be two numbers from 0 to below 1')
    return args


def main(argv: list[str] | None = None) -> None:
    """Draw the figures and write the page."""
    args = parse_args(argv)
    check_folder(args.out)
    args.device = find_device(args.device)
    cfg = None
    if args.arch.endswith('.py'):
        cfg = read_config(args.arch, args.cfg_options, scope='mmpretrain')
    names = choose_images(args, cfg)
    facts = dict(config=args.arch, images=', '.join(map(as_line, names)))
    if args.cfg_options:
        facts['options'] = ', '.join(
            f'{key}={value}' for key, value in args.cfg_options.items()
        )
    if args.browse:
        sections = browse(args, cfg, names)
    else:
        sections, facts['weights'] = look(args, cfg, names)
    facts['writer'] = f'pixcon_mm {__version__}'
    pictures: dict[str, list[tuple[str, bytes]]] = {}
    for heading, figures in sections.items():
        pictures[heading] = []
        for name, figure in figures.items():
            png = as_png(figure)
            folder, _, last = name.rpartition('/')
            stem = f'{heading}_{last}' if name else heading
            atomic_write(args.out / folder / f'{stem}.png', png)
            pictures[heading].append((as_line(name), png))
    page = html_page('What the network sees', facts, pictures)
    atomic_write(args.out / 'index.html', page.encode())
    count = sum(map(len, pictures.values()))
    print(f'figures in {args.out}: {count}, all of them in index.html')


def choose_images(
    args: argparse.Namespace, cfg: Config | None
) -> dict[Path, str]:
    """List the images to draw, with a name for each.

    Damaged images are left out, with a warning.
    """
    if args.images:
        names = name_images(args.images, args.out)
    elif cfg is None or not cfg.get('train_dataloader'):
        raise UserError(
            f'{args.arch} names no images: name some with --images.'
        )
    else:
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            dataset = DATASETS.build(cfg.train_dataloader.dataset)
        chosen = spread(args.max_images, len(dataset))
        names = name_images(
            [Path(dataset.get_data_info(i)['img_path']) for i in chosen],
            args.out,
        )
    paths = list(names)
    chosen = [paths[i] for i in spread(args.max_images, len(paths))]
    return {path: names[path] for path in readable_images(chosen)}


def _no_views(config: str) -> UserError:
    return UserError(
        f'{config} makes no views: --browse is for configs of pre-training.'
    )


def browse(
    args: argparse.Namespace, cfg: Config | None, names: dict[Path, str]
) -> Sections:
    """Draw the views that a config's pipeline makes for its model."""
    if cfg is None:
        raise UserError(f'--browse needs a config file, not {args.arch}.')
    if cfg.default_scope != 'mmpretrain':  # its pipeline needs labels
        raise _no_views(args.arch)
    model, pipeline = build_model(cfg, args.seed)
    preprocessor = model.data_preprocessor.to(args.device).eval()
    seeds = range(args.seed, args.seed + DRAWS)
    names = with_views(pipeline, names, seeds)
    draws = []
    for seed in seeds:
        samples = [make_views(pipeline, path, seed) for path in names]
        if not isinstance(samples[0].get('inputs'), list | tuple):
            raise _no_views(args.arch)
        inputs = preprocessor(default_collate(samples), True)['inputs']
        draws.append(shown_views(preprocessor, list(inputs)))
    figure = browse_figure(np.stack(draws, axis=1), list(names.values()))
    return {'views': {'': figure}}


def with_views(
    pipeline: Callable, names: dict[Path, str], seeds: Iterable[int]
) -> dict[Path, str]:
    """Leave out photographs of which no views can be made, with a warning."""
    found = {}
    for path, name in names.items():
        try:
            for seed in seeds:
                make_views(pipeline, path, seed)
            found[path] = name
        except UserError as error:
            print(f'warning: {error}', file=sys.stderr)
    if not found:
        raise UserError('No views can be made of any of the images.')
    return found


def look(
    args: argparse.Namespace, cfg: Config | None, names: dict[Path, str]
) -> tuple[Sections, str]:
    """Draw the chosen figures; return them, and a note on the weights."""
    possible = [*OF_FEATURES]
    if (cfg or {}).get('model', {}).get('type') == 'PixCon':
        possible = [*PAIR_FIGURES, *OF_FEATURES]
        if cfg.model.get('loss_lambda') == 0:
            possible.remove('weights')
    wanted = args.figures or possible
    if not set(wanted) <= set(possible):
        raise UserError(
            f'--figures: {args.arch} has {", ".join(possible)}; recipes of '
            'PixCon also have crops and matches, and recipes with a dense '
            'loss have weights.'
        )
    pairs = [kind for kind in PAIR_FIGURES if kind in wanted]
    frames = [kind for kind in OF_FEATURES if kind in wanted]
    if 'segments' in frames:
        check_installed('Clustering', 'evaluation', 'faiss')
    sections: Sections = {}
    lines = [f'backbone: {args.pretrained}']
    if frames or args.pretrained == 'none':
        backbone = load_backbone(
            args.arch if cfg is None else cfg,
            args.pretrained,
            args.stride,
            seed=args.seed,
        )
    if pairs:
        model, pipeline = build_model(cfg, args.seed)
        if args.pretrained == 'none':
            # A backbone within a model gets other random weights than one
            # alone, from which the other figures are drawn.
            fill_model(model, Pretrained(backbone.net.state_dict(), 'none'))
        else:
            lines = fill_from(args.pretrained, model)
        viewed = with_views(pipeline, names, [args.seed])
        found = match_photographs(
            model.to(args.device), pipeline, list(viewed), args.seed
        )
        for kind in pairs:
            figures = map(PAIR_FIGURES[kind], found)
            sections[kind] = dict(zip(viewed.values(), figures, strict=True))
    if frames:
        backbone = backbone.to(args.device)
        inputs = *read_features(args, backbone, [*names]), [*names.values()]
        for kind in frames:
            sections[kind] = draw_features(args, kind, *inputs)
    for line in lines:
        print(line)
    return sections, '; '.join(lines)


def read_features(
    args: argparse.Namespace, backbone: FrozenBackbone, paths: list[Path]
) -> tuple[list[np.ndarray], list[Tensor]]:
    """Read images, resize them to whole cells, and compute features."""
    images, maps = [], []
    for path in paths:
        pixels = read_image(path)
        scale = args.side / max(pixels.shape[:2]) / backbone.stride
        height, width = (
            max(round(side * scale), 1) * backbone.stride
            for side in pixels.shape[:2]
        )
        images.append(resize(pixels, (width, height)))
        maps.append(dense_features(backbone, images[-1]))
    return images, maps


def draw_features(
    args: argparse.Namespace,
    kind: str,
    images: list[np.ndarray],
    maps: list[Tensor],
    names: list[str],
) -> dict[str, Figure]:
    """Draw one of ``OF_FEATURES``."""
    if kind == 'pca':
        return {'': pca_figure(images, *principal_colors(maps))}
    if kind == 'segments':
        rows = torch.cat([unit_rows(features) for features in maps]).cpu()
        ids = cluster(rows.numpy(), args.clusters, args.seed)
        parts = ids.split([features[0].numel() for features in maps])
        segments = [
            part.view(features.shape[1:]).numpy()
            for part, features in zip(parts, maps, strict=True)
        ]
        return {'': segments_figure(images, segments, args.clusters)}
    figures = {}
    for i, name in enumerate(names):
        # With the next image, if there is one.
        two = [i, (i + 1) % len(maps)][: len(maps)]
        _, rows, columns = maps[i].shape
        cell = int(args.point[1] * rows), int(args.point[0] * columns)
        cosines = [similarity_map(maps[i], cell, maps[j]) for j in two]
        figures[name] = similarity_figure(
            [images[j] for j in two], cosines, cell
        )
    return figures


if __name__ == '__main__':
    run_tool(main)
