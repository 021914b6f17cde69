#!/usr/bin/env python
"""Make scenes, pre-train a ResNet-18 on them, transfer it."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pixcon_mm.checkpoint.run_checkpoint import newest_checkpoint
from pixcon_mm.errors import UserError, run_tool
from pixcon_mm.visualization.curves import (
    plot_curves,
    read_records,
    summarize,
)
from reproduction.run_dir import RunDir

ROOT = Path(__file__).resolve().parents[1]
DATA = Path('data/demo')
WORK_DIR = Path('work_dirs/demo')
CURVE = WORK_DIR / 'curve.png'
# The metrics that the table shows, all in percent.
TASKS = {
    'configs/segmentation/fcn_r18_demo.py': {'mIoU': ('mIoU', 1)},
    'configs/detection/mask-rcnn_r18-fpn_demo.py': {
        'coco/bbox_mAP': ('box AP', 100),
        'coco/segm_mAP': ('mask AP', 100),
    },
}


def step(title: str, *command: str) -> None:
    """Run a tool of this repository, as a user would."""
    print(f'\n== {title}\n   python {" ".join(command)}', flush=True)
    # The tool inherits the lock: it may outlive this process.
    line = [sys.executable, *command]
    subprocess.run(line, cwd=ROOT, check=True, close_fds=False)


def pretrain() -> None:
    """Pre-train; fail if the loss did not fall."""
    # A resumed or doubled log would blur the curve.
    shutil.rmtree(ROOT / WORK_DIR, ignore_errors=True)
    step(
        'Pre-training ResNet-18 with PixCon-SR (about 4 minutes on 2 cores)',
        'tools/train.py',
        'configs/pretrain/pixcon_r18_demo.py',
        '--work-dir',
        str(WORK_DIR),
    )
    records = read_records(ROOT / WORK_DIR)
    plot_curves({'PixCon-SR, ResNet-18': records}, ROOT / CURVE)
    loss = summarize(records)
    print(f"""
   The loss began at {loss['start']:.2f}, rose to {loss['peak']:.2f} at \
iteration {loss['peak_step']:.0f} and ended at {loss['end']:.2f}.
   It rises first because real keys, harder to tell apart, replace the random
   ones of the queue; then it falls, at first because queries learn to tell
   cells from the means in the queue (docs/method.md, section 12). The spread
   of the features should rise from its low point: near 0 means collapse.""")
    if not loss['end'] < 0.95 * loss['peak']:
        raise UserError(
            f'The loss ended at {loss["end"]:.2f}, less than 5 % below its '
            f'peak of {loss["peak"]:.2f}: this run has not learned.'
        )


def work_dir(config: str, start: str) -> Path:
    """Return the folder of a fine-tuning from some weights."""
    return WORK_DIR / f'{Path(config).stem}_{start}'


def transfer(weights: str) -> dict[str, float]:
    """Fine-tune both tasks from some weights; return their metrics."""
    metrics = {}
    for config, columns in TASKS.items():
        start = 'random' if weights == 'none' else 'PixCon'
        folder = work_dir(config, start)
        step(
            f'Fine-tuning {Path(config).stem} from {start} weights',
            'tools/train.py',
            config,
            *('--pretrained', weights),
            *('--work-dir', str(folder)),
            '--no-validate',
        )
        checkpoint, _ = newest_checkpoint(ROOT / folder)
        step(
            'Evaluating it',
            'tools/test.py',
            config,
            str(Path(checkpoint).relative_to(ROOT)),
            *('--work-dir', str(folder)),
        )
        found = json.loads((ROOT / folder / 'metrics.json').read_text())
        for name, (title, scale) in columns.items():
            metrics[title] = scale * found['metrics'][name]
    return metrics


def show(rows: dict[str, dict[str, float]]) -> None:
    """Print the table."""
    table = Table(title='Transfer to the demo scenes, in percent')
    table.add_column('backbone from')
    for title in next(iter(rows.values())):
        table.add_column(title, justify='right')
    for name, metrics in rows.items():
        table.add_row(name, *(f'{value:.1f}' for value in metrics.values()))
    print()
    Console().print(table)


def pictures() -> str:
    """List the pictures of predictions, one a line."""
    return '\n'.join(
        f'   {work_dir(config, "PixCon")}/predictions.jpg   '
        'truth left, prediction right'
        for config in TASKS
    )


def main(argv: list[str] | None = None) -> None:
    """Run all steps, unless another demo is running."""
    parser = argparse.ArgumentParser(
        description=f'{__doc__} It takes about 20 minutes on two cores and '
        f'begins by removing the results of an earlier one in {WORK_DIR}.'
    )
    parser.parse_args(argv)
    with RunDir(ROOT / WORK_DIR).locked() as lock:
        if lock is None:
            raise UserError(
                f'A demo is already running in {WORK_DIR}: wait for its end, '
                'or stop it.'
            )
        os.set_inheritable(lock, True)
        run_steps()


def run_steps() -> None:
    """Run all steps."""
    step(
        'Composing scenes from photographs',
        'tools/make_demo_data.py',
        *('--preview', str(DATA / 'preview.jpg')),
    )
    pretrain()
    checkpoint, _ = newest_checkpoint(ROOT / WORK_DIR)
    show(
        {
            'random weights': transfer('none'),
            'PixCon': transfer(str(checkpoint.relative_to(ROOT))),
        }
    )
    print(f"""
   Both rows have the same budget, a minute or two, and one seed: it shows
   that the parts work together, not how good the method is.

== What to look at
   {DATA}/preview.jpg   some of the scenes
   {CURVE}   the loss and its monitors
{pictures()}
   {WORK_DIR}   checkpoints; TensorBoard: tensorboard --logdir {WORK_DIR}""")


if __name__ == '__main__':
    try:
        run_tool(main)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # the step has reported it
