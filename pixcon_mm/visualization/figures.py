"""Figures of a network's views, matches and features, drawn from arrays."""

import textwrap
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pixcon_mm.files import as_line
from pixcon_mm.visualization.curves import literal
from pixcon_mm.visualization.matching import MatchedViews
from pixcon_mm.visualization.panels import (
    COLORS,
    HEAT,
    cell_center,
    draw_box,
    draw_heat,
    draw_match,
    draw_overlap,
    show,
)

NAMES = ('view 1', 'view 2')
LINES = 5  # largest number of matches drawn per row and column of cells
COLUMNS = 4  # largest number of images in a row
IN_LEGEND = 20  # largest number of clusters in a legend


def new_figure(title: str, caption: str, size: tuple[float, float]) -> Figure:
    """Make a figure with a title above and a caption below; size in inches."""
    figure = Figure(figsize=size, layout='constrained')
    figure.suptitle(title, x=0.01, ha='left', fontsize=13, fontweight='bold')
    width = int(size[0] * 13)  # characters
    figure.supxlabel(
        textwrap.fill(caption, width), x=0.01, ha='left', fontsize=10
    )
    return figure


def as_pixels(figure: Figure) -> np.ndarray:
    """Return the pixels of a figure, RGB, uint8, of shape (H, W, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def crops_figure(pair: MatchedViews) -> Figure:
    """Draw both crops on the photograph, and the views made from them."""
    figure = new_figure(
        'The two crops',
        'Left: both crops on the photograph; their overlap is shaded. Right: '
        'the views that the network gets: crops that were resized, perhaps '
        'mirrored, and changed in colour. Dashed: the overlap.',
        (11, 4.2),
    )
    photo, *axes = figure.subplots(1, 3, width_ratios=[1.4, 1, 1])
    show(photo, pair.photograph, 'photograph')
    start, end = pair.boxes[:, :2].max(axis=0), pair.boxes[:, 2:].min(axis=0)
    if (start < end).all():
        shade = dict(fill=True, fc='white', alpha=0.45)
        draw_box(photo, (*start - 0.5, *end - 0.5), **shade)
    for color, box in zip(COLORS, pair.boxes, strict=True):
        draw_box(photo, box - 0.5, ec=color, lw=3)
    for i in range(2):
        show(axes[i], pair.views[i], NAMES[i], COLORS[i])
        draw_overlap(axes[i], pair.views[i], pair.overlap[i])
    return figure


def matches_figure(pair: MatchedViews) -> Figure:
    """Draw matches of cells as lines, by similarity and by coordinate."""
    rows, columns = (
        np.arange(side)[(side - 1) % step // 2 :: step]
        for side in pair.grid
        for step in [-(-side // LINES)]
    )
    cells = (rows[:, None] * pair.grid[1] + columns).flatten()
    has_match = pair.in_overlap[0] & (pair.weight[0] > 0)
    inside = [cell for cell in cells if has_match[cell]]
    groups = [
        ('by similarity', pair.by_similarity, cells),
        ('by coordinate', pair.by_coordinate, inside),
    ]
    drawn = [pair.cosine[c, match[c]] for _, match, g in groups for c in g]
    norm = Normalize(min(drawn), max(drawn))
    right, by_chance, total = pair.near
    some = 'some cells' if len(cells) < len(pair.cosine) else 'the cells'
    figure = new_figure(
        'Matches of cells',
        f'Lines lead from {some} of view 1, the query, to their matches in '
        'view 2, the key; their colour shows the cosine of the backbone '
        'features. By similarity, the match is the most similar cell; for '
        f'{right} of the {total} cells in the overlap (dashed), it is at most '
        'one cell away from the same place in the photograph (random matches: '
        f'{by_chance:.0f}). By coordinate, the match is the nearest cell in '
        'the photograph; only cells in the overlap have one.',
        (13, 4.3),
    )
    axes = figure.subplots(1, 4)
    for i, (name, match, group) in enumerate(groups):
        two = axes[2 * i : 2 * i + 2]
        for j, panel in enumerate(two):
            show(panel, pair.views[j], f'{NAMES[j]}, {name}', COLORS[j])
            draw_overlap(panel, pair.views[j], pair.overlap[j])
        size = pair.views.shape[1:3]
        for cell in group:
            ends = [
                cell_center(c, pair.grid, size) for c in (cell, match[cell])
            ]
            color = HEAT(norm(pair.cosine[cell, match[cell]]))
            # Straight lines from cells of one row would hide each other.
            bend = 0.3 * (cell % pair.grid[1] / pair.grid[1] - 0.4)
            draw_match(*two, ends, color, width=1.6, bend=bend)
    figure.colorbar(ScalarMappable(norm, HEAT), ax=axes, label='cosine')
    return figure


def weights_figure(pair: MatchedViews) -> Figure:
    """Draw similarities and semantic weights of both views' cells."""
    figure = new_figure(
        'Semantic weights',
        'For each cell of each view: its cosine with the most similar cell '
        'of the other view, and its weight in the dense loss as a query. '
        'PixCon-SR gives cells in the overlap of the crops (dashed) the '
        'weight 1; the weight of other cells grows with the similarity of '
        'their match.',
        (13, 4.2),
    )
    axes = figure.subplots(1, 4)
    low, high = pair.best.min(), pair.best.max()
    for i in range(2):
        for panel, values, ends, name in (
            (axes[i], pair.best, (low, high), 'cosine of the best match'),
            (axes[2 + i], pair.weight, (0, 1), 'weight'),
        ):
            cells = values[i].reshape(pair.grid)
            heat = draw_heat(panel, pair.views[i], cells, *ends)
            panel.set_title(f'{NAMES[i]}: {name}', color=COLORS[i])
            panel.spines[:].set(color=COLORS[i], linewidth=3)
            draw_overlap(panel, pair.views[i], pair.overlap[i])
            if i == 1:
                both = axes[:2] if name != 'weight' else axes[2:]
                figure.colorbar(
                    heat, ax=both, orientation='horizontal', label=name
                )
    return figure


def similarity_figure(
    images: Sequence[np.ndarray],
    maps: Sequence[np.ndarray],
    cell: tuple[int, int],
) -> Figure:
    """Draw the similarity of all cells to one cell of the first image.

    Args:
        images (Sequence[np.ndarray]): One or two images, RGB, (H, W, 3) each.
        maps (Sequence[np.ndarray]): Cosines with the cell, (h, w) each.
        cell (tuple[int, int]): Row and column of the cell in the first map.
    """
    row, column = cell
    other = ' and of another photograph' if len(maps) > 1 else ''
    figure = new_figure(
        'Similarity to one cell',
        "Cosine of the marked cell's features with those of all cells of its "
        f'photograph{other}.',
        (4 * len(maps) + 5, 4.2),
    )
    photo, *axes = figure.subplots(1, len(maps) + 1, squeeze=False)[0]
    show(photo, images[0], f'the cell in row {row + 1}, column {column + 1}')
    low = min(values.min() for values in maps)
    names = ('the same photograph', 'another photograph')
    for panel, image, values, name in zip(
        axes, images, maps, names, strict=False
    ):
        heat = draw_heat(panel, image, values, low, 1)
        panel.set_title(name)
    height, width = (
        side / cells
        for side, cells in zip(images[0].shape, maps[0].shape, strict=False)
    )
    x, y = column * width - 0.5, row * height - 0.5
    for panel in (photo, axes[0]):
        for color, points in (('white', 4), ('black', 1.5)):
            box = (x, y, x + width, y + height)
            draw_box(panel, box, ec=color, lw=points)
    figure.colorbar(heat, ax=axes, label='cosine')
    return figure


def _with_maps(
    figure: Figure, images: Sequence[np.ndarray], maps: Sequence[np.ndarray]
) -> None:
    """Show images in rows, and the map of each below it."""
    rows = -(-len(images) // COLUMNS)
    axes = figure.subplots(2 * rows, min(COLUMNS, len(images)), squeeze=False)
    for panel in axes.flat:
        panel.axis('off')
    for i, (image, values) in enumerate(zip(images, maps, strict=True)):
        row, column = divmod(i, COLUMNS)
        size = dict(extent=(0, image.shape[1], image.shape[0], 0))
        axes[2 * row, column].imshow(image, **size)
        axes[2 * row + 1, column].imshow(
            values, interpolation='nearest', **size
        )


def _size_of_maps(count: int) -> tuple[float, float]:
    return 3 * min(max(count, 3), COLUMNS), 5 * -(-count // COLUMNS) + 1


def pca_figure(
    images: Sequence[np.ndarray],
    maps: Sequence[np.ndarray],
    shares: Sequence[float],
) -> Figure:
    """Draw the first three principal components of features as colours.

    Args:
        images (Sequence[np.ndarray]): RGB, (H, W, 3) each.
        maps (Sequence[np.ndarray]): Colours in [0, 1], (h, w, 3) each.
        shares (Sequence[float]): Each component's share of the variance.
    """
    red, green, blue = (f'{share:.0%}' for share in shares)
    figure = new_figure(
        'Principal components of the features',
        'Cells with similar colours have similar features, also in different '
        f'images. Red, green and blue show the first ({red} of the variance), '
        f'second ({green}) and third component ({blue}) of the unit features '
        'of all these images, from their 1st to their 99th percentile.',
        _size_of_maps(len(images)),
    )
    _with_maps(figure, images, maps)
    return figure


def segments_figure(
    images: Sequence[np.ndarray], ids: Sequence[np.ndarray], k: int
) -> Figure:
    """Draw clusters of cells as segments.

    Args:
        images (Sequence[np.ndarray]): RGB, (H, W, 3) each.
        ids (Sequence[np.ndarray]): Cluster of each cell, (h, w) each.
        k (int): Number of clusters.
    """
    figure = new_figure(
        f'Segments: {k} clusters of the features',
        'Clusters of the unit features of all cells of these images by '
        'k-means; a colour stands for the same cluster in all images. The '
        f'legend shows the share of the cells, from the largest cluster to '
        f'the {"smallest" if k <= IN_LEGEND else f"{IN_LEGEND}th"}.',
        _size_of_maps(len(images)),
    )
    colors = matplotlib.colormaps['tab20'](np.arange(k) % 20)[:, :3]
    if k > 20:  # tab20 has only 20 colours
        colors = matplotlib.colormaps['turbo'](np.linspace(0, 1, k))[:, :3]
    _with_maps(figure, images, [colors[cells] for cells in ids])
    counts = np.bincount(np.concatenate([i.flat for i in ids]), minlength=k)
    patches = [
        Patch(color=colors[i], label=f'{counts[i] / counts.sum():.0%}')
        for i in counts.argsort()[::-1][:IN_LEGEND]
    ]
    figure.legend(handles=patches, loc='outside right center')
    return figure


def browse_figure(views: np.ndarray, names: Sequence[str]) -> Figure:
    """Draw the views that a pipeline makes, a row for each photograph.

    Args:
        views (np.ndarray): R draws of V views for each of B photographs, RGB,
            uint8. Shape (B, R, V, H, W, 3).
        names (Sequence[str]): Names of the photographs.
    """
    count, pairs, members = views.shape[:3]
    width = pairs * members
    figure = new_figure(
        'Views from the training pipeline',
        f'Each row has {pairs} samples of the {members} views of a '
        'photograph, with all colour augmentation, including that done on '
        'the device.',
        (1.5 * width + 0.6, 1.6 * count + 1),
    )
    axes = figure.subplots(count, width, squeeze=False)
    for row, name in enumerate(names):
        for column in range(width):
            pair, member = divmod(column, members)
            title = f'sample {pair + 1}, view {member + 1}' if row == 0 else ''
            color = COLORS[member % 2]
            show(axes[row, column], views[row, pair, member], title, color)
            axes[row, column].title.set_fontsize(10)
        # The end of a long name tells photographs apart.
        short = name if len(name) <= 24 else f'...{name[-21:]}'
        label = literal(as_line(short))
        axes[row, 0].set_ylabel(label, fontsize=7)
    return figure


# Figures of one pair of views.
PAIR_FIGURES = dict(
    crops=crops_figure, matches=matches_figure, weights=weights_figure
)
