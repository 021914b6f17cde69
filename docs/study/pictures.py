"""Draw matches and weights at the start, middle and end of a pre-training.

    python docs/study/pictures.py plans/small.yaml --epochs 0 40 75

The pictures PLAN_matches_coffee.jpg and PLAN_matches_cat.jpg, which make.py
shows, are of two photographs in scikit-image (CC0: Rachel Michetti, Stefan van
der Walt). Epoch 0 has random weights. All rows of a picture have the same
crops and colour augmentation.
"""

import argparse
import os
import tempfile
from pathlib import Path

import imageio.v3
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from skimage.data import chelsea, coffee

from pixcon_mm.checkpoint.pretrained import fill_from
from pixcon_mm.cli import read_config
from pixcon_mm.errors import UserError, run_tool
from pixcon_mm.visualization.matching import (
    MatchedViews,
    build_model,
    match_photographs,
)
from pixcon_mm.visualization.panels import (
    COLORS,
    HEAT,
    cell_center,
    draw_heat,
    draw_match,
    draw_overlap,
    show,
)
from reproduction.plan import read_plan
from reproduction.runs import select
from reproduction.status import PlanStatus

ROOT = Path(__file__).resolve().parents[2]
PHOTOGRAPHS = dict(coffee=coffee, cat=chelsea)


def main(argv: list[str] | None = None) -> None:
    """Draw a picture for each photograph, a row for each epoch."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('plan')
    parser.add_argument('--epochs', type=int, nargs='+', required=True)
    parser.add_argument('--method', default='pixcon-sr')
    parser.add_argument('--out', type=Path, default=ROOT / 'docs/study')
    args = parser.parse_args(argv)
    plan_file, out = os.path.relpath(args.plan, ROOT), args.out.resolve()
    os.chdir(ROOT)
    status = PlanStatus(read_plan(plan_file))
    runs = status.runs.values()
    found = select(runs, kind='pretrain', method=args.method)
    if not found:
        raise UserError(f'{plan_file} has no pre-training {args.method}.')
    run = found[0]
    config = read_config(run.config, status.plan.with_roots(run.options))
    rows: dict[str, list[MatchedViews]] = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f'{name}.png') for name in PHOTOGRAPHS]
        for path, load in zip(paths, PHOTOGRAPHS.values(), strict=True):
            imageio.v3.imwrite(path, load())
        for epoch in args.epochs:
            model, pipeline = build_model(config, run.seed)
            if epoch:
                weights = status.run_dir(run).path / f'epoch_{epoch}.pth'
                for line in fill_from(str(weights), model):
                    print(line)
            title = f'epoch {epoch}' if epoch else 'random weights'
            rows[title] = match_photographs(model, pipeline, paths, run.seed)
    for index, name in enumerate(PHOTOGRAPHS):
        figure = draw({title: views[index] for title, views in rows.items()})
        path = out / f'{Path(plan_file).stem}_matches_{name}.jpg'
        figure.savefig(path, dpi=80, pil_kwargs=dict(quality=85))
        print(f'Drawn to {path}')


def draw(rows: dict[str, MatchedViews]) -> Figure:
    """Draw matches, cosines and weights of view 1, a row for each title."""
    figure = Figure(figsize=(10.5, 2.7 * len(rows)), layout='constrained')
    every = [pair.best[0] for pair in rows.values()]
    norm = Normalize(np.min(every), np.max(every))
    grid = figure.subplots(len(rows), 4, squeeze=False)
    for (title, pair), axes in zip(rows.items(), grid, strict=True):
        show(axes[0], pair.views[0], f'{title}: query', COLORS[0])
        right, _, total = pair.near
        text = f'key: {right} of {total} within a cell'
        show(axes[1], pair.views[1], text, COLORS[1])
        for panel, values, ends, text in (
            (axes[2], pair.best[0], (norm.vmin, norm.vmax), 'cosine'),
            (axes[3], pair.weight[0], (0, 1), 'weight'),
        ):
            cells = values.reshape(pair.grid)
            heat = draw_heat(panel, pair.views[0], cells, *ends)
            panel.set_title(f'{text} of the query')
            figure.colorbar(heat, ax=panel, shrink=0.8)
        for panel in (axes[0], axes[2], axes[3]):
            draw_overlap(panel, pair.views[0], pair.overlap[0])
        draw_overlap(axes[1], pair.views[1], pair.overlap[1])
        color = ScalarMappable(norm, HEAT)
        for cell in np.flatnonzero(pair.in_overlap[0]):
            ends = [
                cell_center(number, pair.grid, pair.views.shape[1:3])
                for number in (cell, pair.by_similarity[cell])
            ]
            draw_match(
                *axes[:2], ends, color.to_rgba(pair.best[0, cell]), width=1.4
            )
    return figure


if __name__ == '__main__':
    run_tool(main)
