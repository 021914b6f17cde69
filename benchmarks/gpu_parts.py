"""Tests and trainings of ``benchmark.py gpu``; reading of their figures."""

import argparse
import json
import math
import statistics
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pixcon_mm.errors import UserError
from pixcon_mm.visualization.curves import read_records

ROOT = Path(__file__).resolve().parents[1]
TAIL = 30  # last lines of output that are kept from a failed step
# Options for ResNet-50 in the demo's fine-tunings, or for small trial runs.
R50 = [
    'model.backbone.depth=50',
    'model.backbone.stem_channels=64',
    'model.backbone.base_channels=64',
    'model.backbone.conv_cfg=None',
    'train_dataloader.num_workers=8',
]
MASK_RCNN = [
    *R50,
    'model.neck.in_channels=[256,512,1024,2048]',
]
FCN = [*R50, 'model.decode_head.in_channels=2048']
SMALL_BATCH = ['train_dataloader.batch_size=2', 'custom_hooks=[]']
# Groups of tests. Each runs in a process of its own, so that a test that hangs
# does not stop the other groups.
TESTS = {
    'kernels': (
        'tests/test_models/test_info_nce.py',
        'tests/test_models/test_photometrics.py',
        'tests/test_models/test_data_preprocessor.py',
        'tests/test_models/test_stem.py',
        'tests/test_ops',
    ),
    'steps': (
        'tests/test_models/test_no_sync.py',
        'tests/test_models/test_amp.py',
        'tests/test_models/test_sync_bn.py',
    ),
    'runs': ('tests/test_tools/test_gpu_run.py',),
}


class Step(NamedTuple):
    """One process of a part."""

    name: str
    limit: float  # seconds
    words: list[str]  # the command
    collect: Callable[[], dict] | None = None  # function to read its figures
    needs: str | None = None  # an earlier step whose files it reads


# ---- part a: tests --------------------------------------------------------


def tests(args: argparse.Namespace, scratch: Path) -> list[Step]:
    """Return a run of pytest for each group of tests."""
    steps = []
    for name, files in TESTS.items():
        xml = scratch / f'{name}.xml'
        # With their names, the output shows where a group was stopped, for
        # which there is no XML.
        words = ['-m', 'pytest', '-vv', '-m', 'gpu', '-rfE', *files]
        words += ['-p', 'no:cacheprovider', f'--junitxml={xml}']
        steps.append(
            Step(name, 300, [sys.executable, *words], partial(read_tests, xml))
        )
    return steps


def read_tests(xml: Path) -> dict:
    """Read counts of tests and the messages of failures from a JUnit file."""
    counts = dict(passed=0, failed=0, skipped=0)
    failures = {}
    for case in ET.parse(xml).iter('testcase'):
        kinds = {child.tag: child for child in case}
        wrong = kinds.get('failure', kinds.get('error'))
        if wrong is not None:
            counts['failed'] += 1
            name = f'{case.get("classname")}::{case.get("name")}'
            failures[name] = (wrong.text or '').splitlines()[-TAIL:]
        else:
            counts['skipped' if 'skipped' in kinds else 'passed'] += 1
    return dict(counts, failures=failures)


# ---- part c: training -----------------------------------------------------


def training(args: argparse.Namespace, scratch: Path) -> list[Step]:
    """Return a pre-training and two fine-tunings from it."""
    scenes = (16, 4) if args.small else (256, 64)
    labelled = make_scenes(scratch / 'demo', *scenes)
    batch, iterations, epochs = (4, 4, 2) if args.small else (256, 300, 5)
    images = repeat_images(
        Path(args.data or labelled / 'train2017'),
        scratch / 'many',
        batch * iterations // epochs,
    )
    length = 2 if args.small else 100

    def launch(
        name: str, limit: int, config: str, *words: str, options: list[str]
    ) -> Step:
        work_dir = scratch / name
        command = ['bash', 'tools/dist_train.sh', f'configs/{config}.py', '1']
        command += ['--work-dir', str(work_dir), *words]
        command += ['--cfg-options', *options]
        return Step(name, limit, command, partial(read_run, work_dir))

    pretraining = [
        f'data_root={images}',
        f'train_dataloader.batch_size={batch}',
        f'default_hooks.checkpoint.interval={epochs}',
        f'default_hooks.logger.interval={1 if args.small else 10}',
        f'train_dataloader.num_workers={0 if args.small else 16}',
    ]
    fine_tuning = [
        f'data_root={labelled}/',
        f'train_cfg.max_iters={length}',
        f'train_cfg.val_interval={length}',
        f'default_hooks.checkpoint.interval={length}',
        f'default_hooks.logger.interval={length // 10 or 1}',
    ]
    recipe = 'pixcon_r18_demo' if args.small else 'pixcon_r50_coco'
    steps = [
        launch(
            'pretrain',
            240,
            f'pretrain/{recipe}',
            *('--epochs', str(epochs), '--auto-scale-lr'),
            options=pretraining,
        )
    ]
    file = scratch / 'pretrain' / f'epoch_{epochs}.pth'
    for name, config, change in (
        ('mask-rcnn', 'detection/mask-rcnn_r18-fpn_demo', MASK_RCNN),
        ('fcn', 'segmentation/fcn_r18_demo', FCN),
    ):
        more = SMALL_BATCH if args.small else change
        steps.append(
            launch(
                name,
                130,
                config,
                *('--pretrained', str(file)),
                options=[*fine_tuning, *more],
            )._replace(needs='pretrain')
        )
    return steps


def make_scenes(folder: Path, train: int, val: int) -> Path:
    """Compose the demo's labelled scenes in a folder."""
    words = ['--out', folder, '--train', train, '--val', val]
    subprocess.run(
        [sys.executable, 'tools/make_demo_data.py', *map(str, words)],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return folder


def repeat_images(source: Path, folder: Path, count: int) -> Path:
    """Make a folder of ``count`` links to the images of another folder.

    With a small data set, the starts of many short epochs would take most of
    the time.
    """
    files = sorted(path for path in source.rglob('*') if path.is_file())
    if not files:
        raise UserError(f'{source} has no images: name others with --data.')
    folder.mkdir()
    for index in range(count):
        file = files[index % len(files)].resolve()
        (folder / f'{index:06d}{file.suffix}').symlink_to(file)
    return folder


def read_run(work_dir: Path) -> dict:
    """Summarise a run's log: losses, speed, and the last metrics."""
    records = read_records(work_dir)
    # The first tenth is for warming up.
    warm = records[len(records) // 10 :]
    figures = dict(
        iterations=records[-1]['step'],
        loss_start=records[0]['loss'],
        loss_end=records[-1]['loss'],
        seconds=statistics.median(row['time'] for row in warm),
        waiting=statistics.median(row['data_time'] for row in warm),
        memory_mb=records[-1].get('memory'),
    )
    return dict(figures, metrics=read_metrics(work_dir))


def read_metrics(work_dir: Path) -> dict[str, float]:
    """Return the metrics of the last validation, if there was one."""
    metrics: dict[str, float] = {}
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in file.read_text().splitlines():
            record = json.loads(line)
            if 'loss' not in record:
                metrics = record
    return {
        name: value
        for name, value in metrics.items()
        if name not in ('step', 'time', 'data_time', 'epoch', 'iter')
        and math.isfinite(value)  # unlike the score for objects of no size
    }
