"""Speed of loader and step together, as in a real run."""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat

from benchmarks.data import (
    PREFETCH,
    batches,
    pipeline_of_mmpretrain,
    scenes,
)
from benchmarks.measure import row_of, synchronize
from benchmarks.report import Report
from benchmarks.step import (
    DENSECL,
    densecl,
    fused_sgd,
    ours,
    random_batch,
    sizes,
    train_step,
    wrap,
)

TRAINING = 'ours, loader and step'
STEP = 'ours, step alone'
COCO, COCO_PLUS = 118_287, 241_690  # images


def train(args: argparse.Namespace) -> Report:
    """Compare loader and step together with MMPretrain's DenseCL."""
    pixcon = ours(args)
    optim = wrap(args, fused_sgd(pixcon))
    dense, plain = densecl(args)
    # Imported here, because main() discards the output of this import.
    from mmpretrain.datasets import CustomDataset

    dense_images = CustomDataset(
        data_root=args.data,
        with_label=False,
        pipeline=pipeline_of_mmpretrain('mocov2', args.size),
    )
    ahead = PREFETCH * args.workers
    blocks = {
        TRAINING: Blocks(
            partial(batches, scenes(args), args),
            partial(train_step, pixcon, optim),
            args,
            ahead,
        ),
        DENSECL: Blocks(
            partial(batches, dense_images, args),
            partial(train_step, dense, plain),
            args,
            ahead,
        ),
        STEP: Blocks(
            partial(repeat, random_batch(args)),
            partial(train_step, pixcon, optim),
            args,
        ),
    }
    for _ in range(args.rounds):
        for block in blocks.values():
            block.run()
    rows = [block.row(name) for name, block in blocks.items()]
    rate = args.batch / rows[0]['seconds']
    ratios = {
        f'hours for 800 epochs of {name}': value
        for name, value in hours(rate).items()
    }
    title = f'Training, {sizes(args)}, {args.workers} workers'
    return Report(title, rows, DENSECL, args.batch, ratios)


class Blocks:
    """Blocks of timed training steps on a sequence of batches.

    Each block starts its own loader, and ends it. Otherwise, processes of one
    loader would load in advance while the steps of another one are timed.

    Args:
        feed (Callable): Function that returns batches without end.
        step (Callable): Function that trains with a batch.
        args (argparse.Namespace): Options of the command line. Processes of
            a loader pass their batches in turn, so ``iters`` should be a
            multiple of ``workers``.
        ahead (int): Number of batches that are loaded in advance.
    """

    def __init__(
        self,
        feed: Callable[[], Iterator[dict]],
        step: Callable,
        args: argparse.Namespace,
        ahead: int = 0,
    ):
        self.feed, self.step, self.args = feed, step, args
        self.ahead = ahead
        self.times: list[float] = []
        self.waits: list[float] = []

    def run(self) -> None:
        """Use up the batches loaded in advance, then time a block of steps."""
        feed, iters = self.feed(), self.args.iters
        for _ in range(self.ahead + 1):
            self.step(next(feed))
        synchronize(self.args.device)
        start, waited = time.perf_counter(), 0.0
        for _ in range(iters):
            asked = time.perf_counter()
            batch = next(feed)
            waited += time.perf_counter() - asked
            self.step(batch)
        synchronize(self.args.device)
        self.times.append((time.perf_counter() - start) / iters)
        self.waits.append(waited / iters)

    def row(self, name: str) -> dict:
        """Return the medians over the blocks."""
        row = row_of(name, self.times)
        row['data_share'] = statistics.median(self.waits) / row['seconds']
        return row


def hours(images_per_second: float) -> dict[str, float]:
    """Return the hours for 800 epochs at a speed, by data set.

    Example:
        >>> {k: round(v) for k, v in hours(1000.0).items()}
        {'COCO': 26, 'COCO+': 54}
    """
    epochs = {'COCO': 800 * COCO, 'COCO+': 800 * COCO_PLUS}
    return {k: v / images_per_second / 3600 for k, v in epochs.items()}
