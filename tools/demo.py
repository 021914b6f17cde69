#!/usr/bin/env python
"""The demo: make scenes, pre-train a ResNet-18 on them, draw the curve."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pixcon_mm.errors import UserError, run_tool  # noqa: E402
from pixcon_mm.visualization.curves import (  # noqa: E402
    plot_curves,
    read_records,
    summarize,
)

DATA = Path('data/demo')
WORK_DIR = Path('work_dirs/demo')
CURVE = WORK_DIR / 'curve.png'


def step(title: str, *command: str) -> None:
    """Run a tool of this repository, the way a user would."""
    print(f'\n== {title}\n   python {" ".join(command)}', flush=True)
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)


def main() -> None:
    """Run all steps; fail if the loss did not fall."""
    step(
        'Composing scenes from photographs',
        'tools/make_demo_data.py',
        '--preview',
        str(DATA / 'preview.jpg'),
    )
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
== What to look at
   {DATA}/preview.jpg   some of the scenes
   {CURVE}   the loss and its monitors
   {WORK_DIR}   checkpoints; TensorBoard: tensorboard --logdir {WORK_DIR}

   The loss began at {loss['start']:.2f}, rose to {loss['peak']:.2f} at \
iteration {loss['peak_step']:.0f} and ended at {loss['end']:.2f}.
   It rises first because real keys, harder to tell apart, replace the random
   ones of the queue; then it falls as the encoder learns. The spread of the
   features should rise from its low point: near 0 it would mean collapse.""")
    if not loss['end'] < 0.95 * loss['peak']:
        raise UserError(
            f'The loss ended at {loss["end"]:.2f}, less than 5 % below its '
            f'peak of {loss["peak"]:.2f}: this run has not learned.'
        )


if __name__ == '__main__':
    try:
        run_tool(main)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # the step has said what is wrong
