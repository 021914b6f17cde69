"""Loader and step together: what a run really does."""

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import mmpretrain
import torch
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler, default_collate
from mmpretrain.datasets import CustomDataset
from mmpretrain.registry import MODELS
from torch.utils.data import DataLoader, Dataset

from benchmarks.data import MAIN, pipeline_of
from benchmarks.measure import Call, synchronize
from benchmarks.step import (
    DENSECL,
    SGD,
    build,
    densecl_config,
    fused_sgd,
    ours,
    random_batch,
    train_call,
    wrap,
)
from pixcon_mm.datasets import SceneImageDataset

TRAINING = 'ours, loader and step'
STEP = 'ours, step alone'
PREFETCH = 2
COCO, COCO_PLUS = 118_287, 241_690  # images


def moco_pipeline(size: int) -> list[dict]:
    """MoCo-v2's pipeline, DenseCL's too, as MMPretrain ships it."""
    folder = Path(mmpretrain.__file__).parent / '.mim/configs/_base_/datasets'
    cfg = Config.fromfile(folder / 'imagenet_bs32_mocov2.py')
    cfg.train_pipeline[1].transforms[0][0].scale = size
    return cfg.train_pipeline


def batches(dataset: Dataset, args: argparse.Namespace) -> Iterator[dict]:
    """Batches without end."""
    workers = {}
    if args.workers:
        workers = dict(prefetch_factor=PREFETCH, persistent_workers=True)
    loader = DataLoader(
        dataset,
        batch_size=args.batch,
        sampler=InfiniteSampler(dataset, seed=0),
        num_workers=args.workers,
        collate_fn=default_collate,
        pin_memory=args.device == 'cuda',
        drop_last=True,
        **workers,
    )
    return iter(loader)


class Training:
    """Batches and what is done with each; times a block of steps.

    Args:
        feed (Iterator[dict]): Batches.
        step (Callable): Takes a batch.
        args (argparse.Namespace): Settings.
    """

    def __init__(self, feed: Iterator[dict], step, args: argparse.Namespace):
        self.feed, self.step, self.args = feed, step, args
        self.steps: list[float] = []
        self.waits: list[float] = []

    def block(self) -> None:
        """Empty the loader's buffer, then time steps one after the other."""
        for _ in range(PREFETCH * self.args.workers + 1):
            self.step(next(self.feed))
        synchronize(self.args.device)
        start, waited = time.perf_counter(), 0.0
        for _ in range(self.args.iters):
            asked = time.perf_counter()
            batch = next(self.feed)
            waited += time.perf_counter() - asked
            self.step(batch)
        synchronize(self.args.device)
        self.steps.append((time.perf_counter() - start) / self.args.iters)
        self.waits.append(waited / self.args.iters)

    def row(self, name: str, peak: int | None) -> dict:
        """The medians over the blocks."""
        seconds = statistics.median(self.steps)
        return dict(
            name=name,
            seconds=seconds,
            spread=(min(self.steps), max(self.steps)),
            bytes=peak,
            data_share=statistics.median(self.waits) / seconds,
        )


def on_device(make_step: Call, model, wrapper):
    """A step that takes its batch as an argument."""
    return lambda batch: make_step(model, wrapper, batch)()


def train_rows(args: argparse.Namespace) -> list[dict]:
    """Blocks of ours, of MMPretrain's DenseCL and of our bare step."""
    mine = ours(args)
    optim = wrap(args, fused_sgd(mine))
    dense = build(MODELS.build(densecl_config(args)), args)
    plain = wrap(args, torch.optim.SGD(dense.parameters(), **SGD))
    scenes = SceneImageDataset(args.data, pipeline_of(MAIN, args.size))
    same = CustomDataset(
        data_root=args.data,
        with_label=False,
        pipeline=moco_pipeline(args.size),
    )
    fixed = train_call(mine, optim, random_batch(args))
    trainings = {
        TRAINING: Training(
            batches(scenes, args), on_device(train_call, mine, optim), args
        ),
        DENSECL: Training(
            batches(same, args), on_device(train_call, dense, plain), args
        ),
        STEP: Training(iter(lambda: None, 0), lambda _: fixed(), args),
    }
    peaks = {}
    for _ in range(args.rounds):
        for name, training in trainings.items():
            if args.device == 'cuda':
                torch.cuda.reset_peak_memory_stats()
            training.block()
            if args.device == 'cuda':
                peaks[name] = torch.cuda.max_memory_allocated()
    return [t.row(name, peaks.get(name)) for name, t in trainings.items()]


def hours(images_per_second: float) -> dict[str, float]:
    """Hours of the 800 epochs at a rate, by data set.

    Example:
        >>> {k: round(v) for k, v in hours(1000.0).items()}
        {'COCO': 26, 'COCO+': 54}
    """
    epochs = {'COCO': 800 * COCO, 'COCO+': 800 * COCO_PLUS}
    return {k: v / images_per_second / 3600 for k, v in epochs.items()}
