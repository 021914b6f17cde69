"""Measurements of speed of ``benchmark.py gpu``."""

import argparse
import json
import sys
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from benchmarks.gpu_parts import Step, make_scenes

MODEL = ('--size', '64', '--depth', '18')  # for small trial runs


class Measurements:
    """Calls of ``benchmark.py`` as steps of a part.

    Args:
        args (argparse.Namespace): Options of the command line.
        scratch (Path): Folder for photographs and figures.
    """

    def __init__(self, args: argparse.Namespace, scratch: Path):
        self.args, self.scratch = args, scratch
        self.steps: list[Step] = []

    @cached_property
    def photographs(self) -> Path:
        """Folder of the photographs, which are composed if none are named."""
        if self.args.data:
            return Path(self.args.data)
        return make_photographs(self.scratch, self.args)

    def add(self, limit: int, words: str, *small: str, data=False) -> None:
        """Add a call of at most ``limit`` seconds.

        Args:
            limit (int): Seconds.
            words (str): Its words, which are the name of the step as well.
            *small (str): More words for a small trial run.
            data (bool): Whether it reads photographs.
        """
        path = self.scratch / f'figures_{len(self.steps)}.json'
        command = [sys.executable, 'tools/benchmark.py', *words.split()]
        command += ['--json', str(path)]
        if data:
            command += ['--data', str(self.photographs)]
        if self.args.small:
            command += ['--device', 'cpu', '--rounds', '1', '--batch', '2']
            command += ['--queue', '64', *small]
        self.steps.append(
            Step(words, limit, command, lambda: json.loads(path.read_text()))
        )


def speed(args: argparse.Namespace, scratch: Path) -> list[Step]:
    """Return the measurements of part b, the most important ones first."""
    part = Measurements(args, scratch)
    half = 'float32' if args.small else 'float16'
    dtypes = ['float32'] if args.small else ['float16', 'bfloat16']
    batch = 2 if args.small else 256
    part.add(120, f'step --batch {batch} --dtype {half}', *MODEL)
    part.add(90, f'kernels --dtype {half}', *MODEL)
    for dtype in dtypes:
        part.add(60, f'loss --dtype {dtype}', '--cells', '4')
    workers, iters = (0, 1) if args.small else (16, 48)
    part.add(
        180,
        f'train --dtype {half} --workers {workers} --iters {iters} --rounds 1',
        *MODEL,
        data=True,
    )
    sizes = ['--size', '64', '--images', '4']
    part.add(60, f'data --dtype {half} --workers {workers}', *sizes, data=True)
    if args.small:
        return part.steps
    for batch in (64, 128, 512):
        part.add(120, f'step --batch {batch} --dtype float16')
    for batch in (256, 64, 128, 512):
        part.add(60, f'step --batch {batch} --dtype bfloat16 --no-peers')
    return part.steps


def slow_speed(args: argparse.Namespace, scratch: Path) -> list[Step]:
    """Return measurements for which part b has no time.

    Compilation takes about two minutes for each size of the batch.
    """
    part = Measurements(args, scratch)
    if args.small:
        part.add(60, 'step --dtype float32 --no-peers', *MODEL)
        return part.steps
    compiled = 'step --batch {} --dtype float16 --compile --no-peers'
    part.add(240, compiled.format(256))
    train = 'train --dtype float16 --workers 16 --iters 48 --rounds 1'
    part.add(180, f'{train} --compile', data=True)
    part.add(60, 'data --dtype float16 --workers 8', data=True)
    part.add(240, compiled.format(64))
    return part.steps


def make_photographs(scratch: Path, args: argparse.Namespace) -> Path:
    """Write images of 640 x 480, as in COCO, made of four scenes each."""
    scenes = make_scenes(scratch / 'scenes', 8 if args.small else 256, 1)
    folder = scratch / 'photographs'
    folder.mkdir()
    images = [
        cv2.imread(str(path)) for path in sorted(scenes.glob('train2017/*'))
    ]
    for index, image in enumerate(images):
        right, below, across = (
            images[(index + shift) % len(images)] for shift in (1, 3, 7)
        )
        whole = np.vstack(
            [np.hstack([image, right]), np.hstack([below, across])]
        )
        cv2.imwrite(str(folder / f'{index:06d}.jpg'), whole)
    return folder
