"""Parts of figures, each drawn on axes: views, boxes, matches, heat maps."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import ConnectionPatch, Rectangle

COLORS = ('#2f6fde', '#f28e2b')  # for the first and the second view
HEAT = matplotlib.colormaps['plasma']
LUMA = (0.299, 0.587, 0.114)


def show(axes: Axes, image: np.ndarray, title: str = '', color=None) -> None:
    """Show an image without ticks, with an optional title and frame.

    Args:
        axes (Axes): Axes to draw on.
        image (np.ndarray): RGB, (H, W, 3), or grey, (H, W); 0 to 255.
        title (str): Title above the image.
        color (str, optional): Colour of frame and title; None for no frame.
    """
    axes.imshow(image, cmap='gray', vmin=0, vmax=255)
    axes.set_title(title, color=color or 'black')
    axes.set(xticks=[], yticks=[])
    axes.autoscale(False)  # later drawings do not change the limits
    if color:
        axes.spines[:].set(color=color, linewidth=3)


def draw_box(axes: Axes, box: Sequence[float], **style) -> None:
    """Draw a box (x1, y1, x2, y2) in pixels, by default its outline."""
    x1, y1, x2, y2 = box
    style = {'fill': False, **style}
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, **style))


def draw_overlap(axes: Axes, view: np.ndarray, box: Sequence[float]) -> None:
    """Outline a box whose corners are shares of a view's width and height."""
    height, width = view.shape[:2]
    box = np.multiply(box, (width, height, width, height)) - 0.5
    draw_box(axes, box, ec='white', ls='--', lw=2)


def draw_heat(
    axes: Axes,
    image: np.ndarray,
    values: np.ndarray,
    low: float = 0,
    high: float = 1,
) -> matplotlib.cm.ScalarMappable:
    """Draw a map of values over an image in grey.

    Args:
        axes (Axes): Axes to draw on.
        image (np.ndarray): RGB, (H, W, 3).
        values (np.ndarray): Value of each cell, (h, w).
        low, high (float): Values of the first and the last colour.

    Returns:
        ScalarMappable: Argument for a colour bar.
    """
    height, width = image.shape[:2]
    show(axes, 128 + image @ LUMA / 2)  # light grey, so that colours show
    heat = axes.imshow(
        values,
        cmap=HEAT,
        vmin=low,
        vmax=high,
        alpha=0.7,
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation='nearest',
    )
    return matplotlib.cm.ScalarMappable(heat.norm, HEAT)


def cell_center(
    cell: int, grid: tuple[int, int], size: tuple[int, int]
) -> tuple[float, float]:
    """Locate the centre of a cell in an image, in pixels.

    Args:
        cell (int): Number of the cell, counted row by row from 0 on.
        grid (tuple[int, int]): Rows and columns.
        size (tuple[int, int]): Height and width of the image.

    Returns:
        tuple[float, float]: x and y; the first pixel's centre is (0, 0).

    Example:
        >>> cell_center(3, grid=(2, 2), size=(8, 8))
        (5.5, 5.5)
    """
    row, column = divmod(int(cell), grid[1])
    x = (column + 0.5) * size[1] / grid[1]
    return x - 0.5, (row + 0.5) * size[0] / grid[0] - 0.5


def draw_match(
    query: Axes,
    key: Axes,
    ends: tuple[tuple[float, float], tuple[float, float]],
    color: Sequence[float],
    width: float = 2.4,
    bend: float = 0,
) -> None:
    """Draw a line from a point of the query to a point of the key.

    Args:
        query, key (Axes): Axes, each with an image.
        ends (tuple): x and y of both points, each in pixels of its image.
        color (Sequence[float]): Colour of the line.
        width (float): Width of the line, in points.
        bend (float): Curvature of the line, matplotlib's ``rad``.
    """
    for line, points in (('white', width + 1.6), (color, width)):
        query.figure.add_artist(
            ConnectionPatch(
                *ends,
                *('data', 'data'),
                axesA=query,
                axesB=key,
                color=line,
                lw=points,
                capstyle='round',
                connectionstyle=f'arc3,rad={bend}',
            )
        )
    for axes, end in zip((query, key), ends, strict=True):
        axes.plot(*end, 'o', ms=8, color=color, mec='white', mew=1.5)
