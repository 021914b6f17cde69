"""What it costs to feed the model: one core, one image, two views."""

import argparse
import itertools
from pathlib import Path

import cv2
import mmpretrain
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, default_collate
from mmpretrain.registry import MODELS

from benchmarks.measure import Call
from pixcon_mm.datasets import SceneImageDataset, decoding

MAIN = 'pixcon_r50_coco'
CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
OURS = 'ours: decode, crop, flip'
OPENCV = 'ours, OpenCV decodes'
ON_CPU = 'ours, colours in the loader too'
BYOL = "MMPretrain's BYOL pipeline"


def pipeline_of(recipe: str, size: int) -> list[dict]:
    """The train pipeline of a pre-training recipe, at a size of view."""
    cfg = Config.fromfile(CONFIGS / f'pretrain/{recipe}.py')
    pipeline = cfg.train_dataloader.dataset.pipeline
    pipeline[1].scale = size
    return pipeline


def byol_pipeline(size: int) -> list[dict]:
    """BYOL's train pipeline as the installed MMPretrain ships it."""
    folder = Path(mmpretrain.__file__).parent / '.mim/configs/_base_/datasets'
    cfg = Config.fromfile(folder / 'imagenet_bs32_byol.py')
    for view in cfg.train_pipeline[1].transforms:
        view[0].scale = size
    return cfg.train_pipeline


def data_calls(args: argparse.Namespace) -> dict[str, Call]:
    """One image at a time, by each pipeline; in one thread.

    MMPretrain's is called without a data set around it, ours with its own,
    which seeds each sample and skips broken images.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    np.random.seed(0)
    main = SceneImageDataset(args.data, pipeline_of(MAIN, args.size))
    on_cpu = SceneImageDataset(
        args.data, pipeline_of('pixcon_r50_cpu-aug_coco', args.size)
    )
    byol = Compose(byol_pipeline(args.size))
    indices = range(len(main))
    paths = [main.get_data_info(index)['img_path'] for index in indices]

    def each(get, items) -> Call:
        endless = itertools.cycle(items)

        def call() -> None:
            for _ in range(args.images):
                get(next(endless))

        return call

    def without_simplejpeg() -> Call:
        feed = each(main.__getitem__, indices)

        def call() -> None:
            installed, decoding.simplejpeg = decoding.simplejpeg, None
            try:
                feed()
            finally:
                decoding.simplejpeg = installed

        return call

    return {
        BYOL: each(lambda path: byol(dict(img_path=path)), paths),
        OURS: each(main.__getitem__, indices),
        OPENCV: without_simplejpeg(),
        ON_CPU: each(on_cpu.__getitem__, indices),
    }


def device_call(args: argparse.Namespace) -> Call:
    """The other half: augmentation and normalisation on the device."""
    dataset = SceneImageDataset(args.data, pipeline_of(MAIN, args.size))
    batch = default_collate(
        [dataset[i % len(dataset)] for i in range(args.batch)]
    )
    preprocessor = MODELS.build(
        dict(
            type='TwoViewDataPreprocessor',
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            bgr_to_rgb=True,
            non_blocking=True,
        )
    ).to(args.device)
    return lambda: preprocessor(batch, training=True)
