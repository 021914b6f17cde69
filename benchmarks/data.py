"""Speed of the loader, on one core or with several processes."""

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import mmpretrain
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, InfiniteSampler, default_collate
from mmpretrain.registry import MODELS
from torch.utils.data import DataLoader, Dataset

from benchmarks.measure import Call, compare, row_of
from benchmarks.report import Report
from benchmarks.step import MAIN, PRETRAIN
from pixcon_mm.datasets import SceneImageDataset
from pixcon_mm.datasets.loading import readable_images

OURS = 'ours: decode, crop, flip'
ON_CPU = 'ours, colours in the loader too'
PREFETCH = 2  # batches that each process loads in advance
BYOL = "MMPretrain's BYOL pipeline"


def data(args: argparse.Namespace) -> Report:
    """Compare our loader with MMPretrain's BYOL pipeline."""
    if args.workers:
        return workers(args)
    calls = data_calls(args)
    rows = compare(calls, args.rounds, 'cpu', memory=False)
    on_device = dict(device=device_call(args))
    (device,) = compare(on_device, args.rounds, args.device)
    byol, ours, *_ = (row['seconds'] for row in rows)
    per_image = 1e3 * device['seconds'] / args.batch
    ratios = {
        'times faster than the BYOL pipeline': byol / ours,
        f'ms per image on the device ({args.device})': per_image,
    }
    title = f'Loader on one core, two views of {args.size} px'
    return Report(title, rows, BYOL, args.images, ratios)


def workers(args: argparse.Namespace) -> Report:
    """Time batches of a loader with several processes."""
    feed = batches(scenes(args), args)
    # The processes pass their batches in turn, often many at once, so a round
    # has equally many of each.
    count = args.workers * max(args.images // args.batch, 1)
    for _ in range(PREFETCH * args.workers):
        next(feed)  # batches that the processes loaded in advance
    times = []
    for _ in range(args.rounds):
        start = time.perf_counter()
        for _ in range(count):
            next(feed)
        times.append((time.perf_counter() - start) / count)
    title = (
        f'Loader with {args.workers} processes, two views of {args.size} px'
    )
    return Report(title, [row_of(OURS, times)], OURS, args.batch)


def batches(dataset: Dataset, args: argparse.Namespace) -> Iterator[dict]:
    """Iterate over batches without end."""
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


def scenes(args: argparse.Namespace, recipe: str = MAIN) -> SceneImageDataset:
    """Build the data set of a recipe with the benchmark's size of views."""
    cfg = Config.fromfile(PRETRAIN / f'{recipe}.py')
    pipeline = cfg.train_dataloader.dataset.pipeline
    pipeline[1].scale = args.size
    return SceneImageDataset(args.data, pipeline)


def pipeline_of_mmpretrain(method: str, size: int) -> list[dict]:
    """Return a training pipeline of the installed MMPretrain."""
    folder = Path(mmpretrain.__file__).parent / '.mim/configs/_base_/datasets'
    pipeline = Config.fromfile(folder / f'imagenet_bs32_{method}.py')
    for view in pipeline.train_pipeline[1].transforms:
        view[0].scale = size
    return pipeline.train_pipeline


def data_calls(args: argparse.Namespace) -> dict[str, Call]:
    """Return calls that load images with each pipeline, in one thread.

    MMPretrain's pipeline is called without a data set. Ours is called through
    its data set, which seeds each sample. Broken images are left out, with a
    warning.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    np.random.seed(0)
    main, on_cpu = scenes(args), scenes(args, 'pixcon_r50_cpu-aug_coco')
    byol = Compose(pipeline_of_mmpretrain('byol', args.size))
    all_paths = {
        main.get_data_info(index)['img_path']: index
        for index in range(len(main))
    }
    # At most this many images are loaded, with compare()'s warm-up round.
    paths = readable_images(all_paths, args.images * (args.rounds + 1))
    indices = [all_paths[path] for path in paths]

    def each(load, items) -> Call:
        endless = itertools.cycle(items)

        def call() -> None:
            for _ in range(args.images):
                load(next(endless))

        return call

    return {
        BYOL: each(lambda path: byol(dict(img_path=path)), paths),
        OURS: each(main.__getitem__, indices),
        ON_CPU: each(on_cpu.__getitem__, indices),
    }


def device_call(args: argparse.Namespace) -> Call:
    """Return a call of augmentation and normalisation on the device."""
    dataset = scenes(args)
    batch = default_collate(
        [dataset[i % len(dataset)] for i in range(args.batch)]
    )
    cfg = Config.fromfile(PRETRAIN / f'{MAIN}.py').model.data_preprocessor
    preprocessor = MODELS.build(cfg).to(args.device)
    return lambda: preprocessor(batch, training=True)
