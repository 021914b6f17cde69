"""Reference curves of a recipe, and a comparison of other runs with them.

A file of reference curves has the logged values of several runs. A band is the
mean of the smoothed curves, plus and minus :data:`WIDTH` deviations.
"""

import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from pixcon_mm.errors import UserError
from pixcon_mm.files import atomic_write
from pixcon_mm.visualization.curves import (
    TITLES,
    Records,
    literal,
    smooth,
    smoothing,
)

# Half of the band's width, in deviations of a single run. It is this large
# because only a few runs give the deviation, and another run is compared at
# some hundred places: with three runs and normal noise, 1 of 40 healthy runs
# leaves the band somewhere.
WIDTH = 5
# Lower limit of the deviation, as a share of the mean curve's range.
LEAST = 0.01


class Reference(NamedTuple):
    """Curves of R runs of a recipe at T iterations."""

    recipe: str
    steps: np.ndarray  # iterations, shape (T, )
    curves: dict[str, np.ndarray]  # by name, each of shape (R, T)


class Band(NamedTuple):
    """Range in which another run's curve is expected. Shapes (T, )."""

    low: np.ndarray
    mean: np.ndarray
    high: np.ndarray


class Excursion(NamedTuple):
    """A range of iterations where a run is outside of the band."""

    name: str
    start: int  # first iteration
    end: int  # last iteration
    step: int  # iteration where the run is farthest outside
    value: float  # smoothed value of the run at that iteration
    low: float  # ends of the band at that iteration
    high: float

    def __str__(self) -> str:
        """Describe the excursion in a sentence."""
        where = f'iterations {self.start} to {self.end}'
        if self.start == self.end:
            where = f'iteration {self.start}'
        return (
            f'{where}: {self.name} leaves the band; '
            f'at {self.step} it is {self.value:.4g}, the band '
            f'{self.low:.4g} to {self.high:.4g}'
        )


def make_reference(recipe: str, runs: dict[str, Records]) -> Reference:
    """Collect the curves of runs at the iterations that all have logged.

    Args:
        recipe (str): Name of the recipe.
        runs (dict[str, list[dict]]): Records by name of run.

    Raises:
        UserError: If there are fewer than three runs, if they have no
            iteration in common, or if a value is not finite.
    """
    if len(runs) < 3:
        raise UserError(
            'A reference curve needs at least three runs with different '
            'seeds, to measure how far runs differ, but the number of runs '
            f'is {len(runs)}.'
        )
    by_step = [{r['step']: r for r in records} for records in runs.values()]
    steps = sorted(set.intersection(*({*known} for known in by_step)))
    if not steps:
        raise UserError(
            f'The runs {", ".join(runs)} have logged no iteration in common: '
            'name runs of one recipe.'
        )
    rows = [[known[step] for step in steps] for known in by_step]
    logged = set.intersection(*({*r} for row in rows for r in row))
    names = [n for n in rows[0][0] if n in logged and _is_curve(n)]
    curves = {
        name: np.array([[r[name] for r in row] for row in rows])
        for name in names
    }
    for name, values in curves.items():
        if not np.isfinite(values).all():
            raise UserError(
                f'{name} of a run is NaN or infinite: a reference needs runs '
                'that have not diverged.'
            )
    return Reference(recipe, np.array(steps), curves)


def _is_curve(name: str) -> bool:
    # The momentum is a setting, not an observation.
    return name.startswith(('loss', 'mon_')) and name != 'mon_momentum'


def save_reference(reference: Reference, path: str | Path) -> None:
    """Write a reference as JSON, with numbers of four digits."""
    curves = {
        name: [[float(f'{value:.4g}') for value in run] for run in runs]
        for name, runs in reference.curves.items()
    }
    content = dict(
        recipe=reference.recipe, steps=reference.steps.tolist(), curves=curves
    )
    text = json.dumps(content).replace('], ', '],\n').replace(': [', ':\n[')
    atomic_write(Path(path), f'{text}\n'.encode())


def load_reference(path: str | Path) -> Reference:
    """Read a file of reference curves, as :func:`save_reference` writes it.

    Raises:
        UserError: If there is no such file, or if its content is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f'There is no file of reference curves {path}. The repository has '
            'some in docs/curves/; tools/plot_curve.py RUN RUN RUN --save '
            'FILE.json writes your own.'
        )
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        curves = {
            name: np.array(runs, float)
            for name, runs in content['curves'].items()
        }
        steps = np.array(content['steps'])
        if any(runs.shape[1:] != steps.shape for runs in curves.values()):
            raise ValueError('a curve and the steps differ in length')
        if not (curves and steps.size):
            raise ValueError('it has no curve')
        reference = Reference(content['recipe'], steps, curves)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f'{path} holds no reference curves ({error}): write it with '
            'tools/plot_curve.py RUN RUN RUN --save FILE.'
        ) from error
    return reference


def _window(length: int) -> int:
    """Return the window of smoothing, at least 3 as single steps are noisy."""
    return max(smoothing(length), 3)


def band_of(runs: np.ndarray) -> Band:
    """Compute the band of a curve.

    Half of its width is ``WIDTH`` times s sqrt(1 + 1 / R), the deviation of
    another run from the mean of the R runs. Here s^2 is the variance between
    the smoothed runs, averaged over a quarter of the steps because R is small.

    Args:
        runs (np.ndarray): Values of R >= 2 runs. Shape (R, T).
    """
    count, length = runs.shape
    width = _window(length)
    smoothed = np.stack([smooth(run, width) for run in runs])
    mean = smoothed.mean(0)
    variance = smooth(smoothed.var(0, ddof=1), max(length // 4, 1) | 1)
    deviation = np.maximum(np.sqrt(variance), LEAST * np.ptp(mean))
    half = WIDTH * deviation * math.sqrt(1 + 1 / count)
    return Band(mean - half, mean, mean + half)


def curve_at(reference: Reference, records: Records, name: str) -> np.ndarray:
    """Return a run's smoothed curve, at the reference's steps that it reached.

    Values between the run's own steps are interpolated. If the run has not
    reached the last step, half a window at its end is left out, because the
    smoothing there lacks the values that come later.

    Returns:
        np.ndarray: Shape (t, ), t <= T; empty if the run has no such curve.
    """
    points = [(r['step'], r[name]) for r in records if name in r]
    if not points:
        return np.zeros(0)
    steps, values = np.array(points, float).T
    reached = reference.steps[reference.steps <= steps[-1]]
    if not len(reached):
        return np.zeros(0)
    width = _window(len(reference.steps))
    curve = smooth(np.interp(reached, steps, values), width)
    is_at_end = len(reached) == len(reference.steps)
    return curve if is_at_end else curve[: max(len(curve) - width // 2, 0)]


def find_excursions(reference: Reference, records: Records) -> list[Excursion]:
    """Find where a run leaves the band, in the order of iterations.

    NaN counts as outside.

    Raises:
        UserError: If the run has not reached the first step, or if it has
            none of the curves.
    """
    found, compared = [], 0
    for name, runs in reference.curves.items():
        values = curve_at(reference, records, name)
        compared += len(values)
        low, mean, high = (part[: len(values)] for part in band_of(runs))
        outside = ~((low <= values) & (values <= high))
        edges = np.flatnonzero(np.diff(np.pad(outside, 1).astype(int)))
        for begin, end in edges.reshape(-1, 2):
            part = slice(begin, end)
            distance = np.abs(values - mean)[part] / (high - mean)[part]
            # NaN counts as the farthest.
            at = begin + int(np.nan_to_num(distance, nan=np.inf).argmax())
            found.append(
                Excursion(
                    name,
                    int(reference.steps[begin]),
                    int(reference.steps[end - 1]),
                    int(reference.steps[at]),
                    float(values[at]),
                    float(low[at]),
                    float(high[at]),
                )
            )
    if not compared:
        # The last values cannot be smoothed as those of whole runs are.
        half = _window(len(reference.steps)) // 2
        first = reference.steps[min(half, len(reference.steps) - 1)]
        raise UserError(
            'The run has nothing to compare with the reference curves of '
            f'{reference.recipe} yet: it ends at iteration '
            f'{records[-1]["step"]}, and must reach {first} with one of '
            f'{", ".join(reference.curves)} in its log.'
        )
    return sorted(found, key=lambda item: (item.start, item.name))


def plot_against(
    reference: Reference, name: str, records: Records, path: str | Path
) -> None:
    """Draw a run over the bands, with red points where it is outside.

    Args:
        reference (Reference): The curves of the recipe.
        name (str): Name of the run.
        records (list[dict]): Its records.
        path (str | Path): Picture to write; its suffix sets the format.
    """
    count = len(next(iter(reference.curves.values())))
    columns = min(4, len(reference.curves))
    rows = math.ceil(len(reference.curves) / columns)
    figure = Figure(figsize=(3.2 * columns, 2.6 * rows), layout='constrained')
    figure.suptitle(
        literal(f'{name} over the band of {count} runs of {reference.recipe}')
    )
    for index, (key, runs) in enumerate(reference.curves.items()):
        axes = figure.add_subplot(rows, columns, index + 1)
        low, mean, high = band_of(runs)
        steps = reference.steps
        style = dict(color='C0', linewidth=0)
        axes.fill_between(steps, low, high, alpha=0.2, **style, label='band')
        axes.plot(steps, mean, '--', color='C0', lw=1, label='mean')
        values = curve_at(reference, records, key)
        n = len(values)
        # A single value has no line.
        line = dict(color='k', lw=1.3, marker='.' if n == 1 else '')
        axes.plot(steps[:n], values, label='run', **line)
        outside = ~((low[:n] <= values) & (values <= high[:n]))
        axes.plot(
            *(steps[:n][outside], values[outside], 'o'),
            **dict(color='C3', ms=4, label='outside'),
        )
        axes.set_title(TITLES.get(key, key.replace('_', ', ')), fontsize=9)
        axes.set_xlabel('iteration', fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        if index == 0:
            axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
