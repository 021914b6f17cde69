"""Curves of a run's losses and monitors, drawn from MMEngine's log."""

import json
import textwrap
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pixcon_mm.errors import UserError

# What is logged beside the losses, and the titles of its curves.
TITLES = {
    'mon_pos_sim': 'cosine of positives',
    'mon_neg_logsumexp': 'log-sum of negatives',
    'mon_weight': 'mean semantic weight',
    'mon_feature_std': 'deviation of embeddings (0: collapse)',
    'mon_effective_rank': 'effective rank of features',
    'mon_pos_margin': "margin over another image's positive",
    'mon_overlap': 'share of cells in the overlap',
    'probe_recall_at_1': 'correspondence: recall at 1',
    'probe_miou': 'nearest neighbours: mIoU, %',
}
# DenseProbeHook logs these every few epochs.
PROBES = ('probe_recall_at_1', 'probe_miou')
# Drawn below the losses, if they were logged.
PANELS = (
    *('mon_pos_sim', 'mon_pos_margin', 'mon_neg_logsumexp', 'mon_weight'),
    *('mon_feature_std', 'mon_effective_rank', *PROBES),
)
# Lines of the parts of the loss.
STYLES = dict(total='-', image='--', single='--', dense=':')
Records = list[dict[str, float]]


def read_records(work_dir: str | Path) -> Records:
    """Read the training records of a run, in the order of iterations.

    Where a run was resumed or started over, the later records of the earlier
    attempt are dropped, because they are not part of this run. The values of
    a probe are added to the last record before the probe.

    Args:
        work_dir (str | Path): Work directory of the run, or one of its
            scalars.json files.

    Raises:
        UserError: If there is no record of a training.
    """
    work_dir = Path(work_dir)
    files = [work_dir] if work_dir.is_file() else []
    kept: Records = []
    for file in files or sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in file.read_text(errors='replace').splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue  # incomplete last line of a run that was killed
            if not isinstance(record, dict):
                continue
            is_training = 'loss' in record
            probe = {name: record[name] for name in PROBES if name in record}
            if not (is_training or probe):
                continue
            done = record['step'] - is_training
            while kept and kept[-1]['step'] > done:
                kept.pop()
            if is_training:
                kept.append(record)
            elif kept:
                kept[-1].update(probe)
    if not kept:
        raise UserError(
            f'{str(work_dir)!r} has no training log '
            '(*/vis_data/scalars.json): name the --work-dir of a run that '
            'has logged at least once.'
        )
    return kept


def literal(text: str) -> str:
    r"""Escape dollar signs, between which matplotlib reads formulas.

    Example:
        >>> print(literal('1$ and 2$'))
        1\$ and 2\$
    """
    return text.replace('$', r'\$')


def smooth(values: np.ndarray, width: int | None = None) -> np.ndarray:
    """Return the centred running mean, with a narrower window at both ends.

    Args:
        values (np.ndarray): Shape (T, ).
        width (int, optional): Number of values in the window, instead of
            :func:`smoothing`.

    Example:
        >>> smooth(np.array([0.0, 3.0, 6.0, 3.0]), 3).tolist()
        [1.5, 3.0, 4.0, 4.5]
    """
    width = width or smoothing(len(values))
    # np.convolve's mode='same' would return too many values if there are
    # fewer than in the window.
    start = (width - 1) // 2
    part = slice(start, start + len(values))
    kernel = np.ones(width)
    total = np.convolve(values, kernel)[part]
    return total / np.convolve(np.ones_like(values), kernel)[part]


def summarize(records: Records) -> dict[str, float]:
    """Find the first, highest and last value of the smoothed loss.

    Args:
        records (list[dict]): From :func:`read_records`.

    Returns:
        dict[str, float]: ``start``, ``peak`` and ``end``, and the iteration
        of the peak, ``peak_step``.
    """
    values = smooth(np.array([record['loss'] for record in records]))
    peak = int(values.argmax())
    return dict(
        start=float(values[0]),
        peak=float(values[peak]),
        peak_step=records[peak]['step'],
        end=float(values[-1]),
    )


def smoothing(length: int) -> int:
    """Return an odd window, about a twentieth of a curve's length."""
    return max(length // 20, 1) | 1


def plot_curves(runs: dict[str, Records], path: str | Path) -> None:
    """Draw the losses and monitors of one or several runs.

    Args:
        runs (dict[str, list[dict]]): Records by name of run.
        path (str | Path): Picture to write; its suffix sets the format.
    """
    figure = Figure(figsize=(13, 6.5), layout='constrained')
    logged = {key for records in runs.values() for r in records for key in r}
    panels = [key for key in PANELS if key in logged]
    columns = max(len(panels), 1)
    grid = figure.add_gridspec(2, columns, height_ratios=[2, 1])
    top = figure.add_subplot(grid[0, :])
    lines = [
        _draw_losses(top, name, records, color=f'C{index}')
        for index, (name, records) in enumerate(runs.items())
    ]
    # A colour for each run, and a style for each part of the loss.
    lines += [
        Line2D([], [], color='black', linestyle=style, label=name)
        for name, style in STYLES.items()
        if key_of(name) in logged
    ]
    title = 'Contrastive loss' if 'loss_image' in logged else 'Loss'
    top.set(xlabel='iteration', ylabel='loss', title=title)
    top.margins(y=0.12)
    top.grid(alpha=0.3)
    figure.legend(handles=lines, loc='outside right upper', fontsize=8)
    for column, key in enumerate(panels):
        axes = figure.add_subplot(grid[1, column])
        for index, records in enumerate(runs.values()):
            points = [(r['step'], r[key]) for r in records if key in r]
            if points:
                # A probe has few values, which points show better.
                style = '.-' if key in PROBES or len(points) == 1 else '-'
                axes.plot(*zip(*points, strict=True), style, color=f'C{index}')
        axes.set_title(textwrap.fill(TITLES[key], 120 // columns), fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def _draw_losses(axes, name: str, records: Records, color: str) -> Line2D:
    """Draw the parts of a run's loss; return the line for the legend."""
    for part, style in STYLES.items():
        key = key_of(part)
        points = [(r['step'], r[key]) for r in records if key in r]
        if not points:
            continue
        steps, values = np.array(points, float).T
        if part == 'total':
            axes.plot(steps, values, color=color, alpha=0.3, linewidth=1)
        # A single point is no line.
        marker = '.' if len(points) == 1 else None
        axes.plot(
            steps,
            smooth(values),
            linestyle=style,
            marker=marker,
            color=color,
            label=part,
        )
    peak = summarize(records)['peak']
    label = f'{literal(name)} (peak {peak:.2f})'
    return Line2D([], [], color=color, label=label)


def key_of(part: str) -> str:
    """Return the name of a part of the loss in the log.

    Example:
        >>> key_of('total'), key_of('dense')
        ('loss', 'loss_dense')
    """
    return 'loss' if part == 'total' else f'loss_{part}'
