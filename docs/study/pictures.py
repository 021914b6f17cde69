"""Draw matches and weights at the start, middle and end of a pre-training.

    python docs/study/pictures.py CONFIG none RUN/epoch_40.pth RUN/epoch_75.pth

Writes matches_coffee.jpg and matches_cat.jpg, of two photographs that come
with scikit-image (CC0: Rachel Michetti, Stefan van der Walt). The crops are
the same in each row, and so are the matches' colours in each picture.
"""

import argparse
import tempfile
from pathlib import Path

import imageio.v3
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from skimage.data import chelsea, coffee

from pixcon_mm.checkpoint.load import load_weights
from pixcon_mm.engine.hooks.pretrained_hook import fill_model
from pixcon_mm.errors import run_tool
from pixcon_mm.tools.visualize import read_config
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

PHOTOGRAPHS = dict(coffee=coffee, cat=chelsea)
OUT = Path(__file__).parent


def main(argv: list[str] | None = None) -> None:
    """Draw a picture for each photograph, a row for each checkpoint."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='of a PixCon with a dense loss')
    parser.add_argument(
        'weights', nargs='+', help='checkpoints; none is random weights'
    )
    parser.add_argument('--seed', type=int, default=0, help='of crops')
    parser.add_argument('--out', type=Path, default=OUT)
    args = parser.parse_args(argv)
    config = read_config(args.config)
    rows: dict[str, list[MatchedViews]] = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f'{name}.png') for name in PHOTOGRAPHS]
        for path, load in zip(paths, PHOTOGRAPHS.values(), strict=True):
            imageio.v3.imwrite(path, load())
        for weights in args.weights:
            # All start from the same weights, those of the first row.
            model, pipeline = build_model(config, args.seed)
            title = 'random weights'
            if weights != 'none':
                tensors = load_weights(weights).tensors
                for line in fill_model(model, tensors, weights):
                    print(line)
                title = Path(weights).stem.replace('_', ' ')
            rows[title] = match_photographs(model, pipeline, paths, args.seed)
    for index, name in enumerate(PHOTOGRAPHS):
        figure = draw({title: found[index] for title, found in rows.items()})
        out = args.out / f'matches_{name}.jpg'
        figure.savefig(out, dpi=80, pil_kwargs=dict(quality=85))
        print(f'Drawn to {out}')


def draw(rows: dict[str, MatchedViews]) -> Figure:
    """Draw matches, cosines and weights of view 1, a row for each title."""
    figure = Figure(figsize=(10.5, 2.7 * len(rows)), layout='constrained')
    every = [pair.best[0] for pair in rows.values()]
    norm = Normalize(np.min(every), np.max(every))
    grid = figure.subplots(len(rows), 4, squeeze=False)
    for (title, pair), axes in zip(rows.items(), grid, strict=True):
        show(axes[0], pair.views[0], f'{title}: query', COLORS[0])
        right, total = pair.near
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
