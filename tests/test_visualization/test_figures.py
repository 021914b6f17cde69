"""Figures contain the numbers that they were given."""

import numpy as np
import pytest
from matplotlib.patches import ConnectionPatch

from pixcon_mm.visualization.figures import (
    as_pixels,
    browse_figure,
    matches_figure,
    pca_figure,
    segments_figure,
    similarity_figure,
    weights_figure,
)
from pixcon_mm.visualization.matching import MatchedViews
from pixcon_mm.visualization.panels import HEAT


def photograph(height=48, width=64):
    return np.random.randint(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def pair():
    """A grid of 2 x 3 cells; the left column is outside the overlap."""
    cosine = np.random.uniform(-1, 1, (6, 6))
    return MatchedViews(
        photograph=photograph(),
        views=np.random.randint(0, 256, (2, 24, 24, 3), dtype=np.uint8),
        boxes=np.array([[0, 0, 40, 40], [20, 8, 60, 48]], dtype=np.float32),
        overlap=np.array([[1 / 3, 0, 1, 1], [0, 0, 1, 1]]),
        grid=(2, 3),
        cosine=cosine,
        by_similarity=cosine.argmax(axis=1),
        by_coordinate=np.array([0, 0, 1, 3, 3, 4]),
        near=(1, 2.0, 4),
        in_overlap=np.array([[False, True, True] * 2, [True] * 6]),
        best=np.random.uniform(-1, 1, (2, 6)),
        weight=np.random.uniform(0, 1, (2, 6)),
    )


def lines(figure):
    """Colours of lines by their ends, without the white below them."""
    found = {}
    for line in figure.findobj(ConnectionPatch):
        color = line.get_edgecolor()
        if color != (1, 1, 1, 1):
            column = figure.axes.index(line.axesA)
            found[column, line.xy1, line.xy2] = color
    return found


def test_lines_lead_to_the_matches(pair):
    pair.weight[0, 5] = 0  # as of a match that is too far away
    figure = matches_figure(pair)
    found = lines(figure)
    inside = pair.in_overlap[0, :5].nonzero()[0]
    drawn = [(0, c, pair.by_similarity[c]) for c in range(6)]
    drawn += [(2, c, pair.by_coordinate[c]) for c in inside]
    cosines = [pair.cosine[cell, match] for _, cell, match in drawn]
    low, high = min(cosines), max(cosines)
    expected = {}
    for (column, *ends), cosine in zip(drawn, cosines, strict=True):
        places = [
            # Cells of 12 rows and 8 columns of pixels.
            (8 * (end % 3) + 3.5, 12 * (end // 3) + 5.5)
            for end in ends
        ]
        expected[(column, *places)] = HEAT((cosine - low) / (high - low))
    assert found.keys() == expected.keys()
    for place, color in expected.items():
        assert found[place] == pytest.approx(color, abs=0.01)
    bar = figure.axes[-1]
    assert bar.get_ylim() == pytest.approx((low, high))


def test_heat_maps_are_the_weights(pair):
    panels = weights_figure(pair).axes[:4]
    for i, panel in enumerate(panels):
        values = (pair.best, pair.weight)[i // 2][i % 2].reshape(2, 3)
        heat = panel.images[-1]
        np.testing.assert_array_equal(heat.get_array(), values)
    assert panels[3].images[-1].get_clim() == (0, 1)


def test_similarity_has_one_scale_for_both_images(pair):
    maps = [np.random.uniform(0, 1, (3, 4)), np.random.uniform(-1, 1, (3, 4))]
    figure = similarity_figure([photograph(), photograph()], maps, (1, 2))
    photo, *panels, _ = figure.axes
    for panel, values in zip(panels, maps, strict=True):
        heat = panel.images[-1]
        np.testing.assert_array_equal(heat.get_array(), values)
        assert heat.get_clim() == (maps[1].min(), 1)
    box = photo.patches[0].get_bbox().bounds
    assert box == pytest.approx((31.5, 15.5, 16, 16))


@pytest.mark.parametrize('count', [1, 5])
def test_maps_lie_below_their_images(count):
    images = [photograph() for _ in range(count)]
    maps = [np.random.uniform(0, 1, (3, 4, 3)) for _ in range(count)]
    ids = [np.random.randint(0, 3, (3, 4)) for _ in range(count)]
    figures = [
        pca_figure(images, maps, (0.5, 0.2, 0.1)),
        segments_figure(images, ids, 3),
    ]
    columns = min(count, 4)
    for figure in figures:
        for i in range(count):
            row, column = divmod(i, columns)
            above = figure.axes[2 * row * columns + column]
            below = figure.axes[(2 * row + 1) * columns + column]
            np.testing.assert_array_equal(
                above.images[0].get_array(), images[i]
            )
            values = below.images[0].get_array()
            if figure is figures[0]:
                np.testing.assert_allclose(values, maps[i])
            else:
                _, same = np.unique(
                    values.reshape(-1, 3), axis=0, return_inverse=True
                )
                together = same[:, None] == same
                flat = ids[i].flatten()
                np.testing.assert_array_equal(together, flat[:, None] == flat)


def test_a_row_of_views_for_each_photograph():
    views = np.random.randint(0, 256, (2, 3, 2, 8, 8, 3), dtype=np.uint8)
    # The first is an invalid formula; the second has a byte that is not UTF-8.
    figure = browse_figure(views, ['$^$', 'caf\udce9'])
    as_pixels(figure)
    shown = [panel.images[0].get_array() for panel in figure.axes]
    np.testing.assert_array_equal(shown, views.reshape(12, 8, 8, 3))
    names = ['COCO_train2014_000000123456', 'short']
    figure = browse_figure(views, names)
    labels = [panel.get_ylabel() for panel in figure.axes[::6]]
    assert labels == ['...rain2014_000000123456', 'short']
