r"""Measure how queries, keys and queue lie in the first steps of a run.

    python docs/early_training.py configs/pretrain/pixcon_r18-w32_small.py \
        --iterations 192 --cfg-options data_root=/path/to/images
    ... --negatives cells    # a cell of each view in the queue, not its mean
    ... --cfg-options padding_mode=zeros    # the recipe mirrors the borders

Trains as the recipe does, saves nothing, and prints a table for section 12 of
docs/method.md. Values are those of the dense branch: R is the length of the
mean of unit vectors; all others but losses and matches in place are cosines.
"""

import argparse
import tempfile

import torch
from mmengine.hooks import Hook
from torch import Tensor

from pixcon_mm.cli import parse, prepare_config
from pixcon_mm.engine import PixConRunner
from pixcon_mm.errors import run_tool
from pixcon_mm.models.head import positive_margin
from pixcon_mm.processes import kill_workers


def mean_length(rows: Tensor) -> Tensor:
    """Return the length of the mean of unit rows (..., C): 1 if all equal."""
    return rows.flatten(0, -2).mean(0).norm()


@torch.no_grad()
def measure(model, batch: dict) -> dict[str, float]:
    """Measure the dense branch on a batch of the loader."""
    data = model.data_preprocessor(batch, True)
    pairs = model.encode(**data)
    match = torch.stack([model.head.match(pair).key_cell for pair in pairs])
    query = torch.stack([model.head._predict_cells(pair) for pair in pairs])
    # Shapes (2, B, N, C) and (2, B, C); two directions.
    cells = torch.stack([pair.key.cells for pair in pairs])
    means = torch.stack([pair.key.mean_cell for pair in pairs])
    positive = cells.take_along_dim(match[..., None], 2)
    queue = model.dense_queue.features.mean(0)
    other = cells.roll(1, 1)
    place = torch.arange(cells.shape[2], device=match.device)
    return {
        'pos_sim': (query * positive).sum(-1).mean(),
        'pos_margin': positive_margin(query, positive),
        'query-queue': (query @ (queue / queue.norm())).mean(),
        'R queue': queue.norm(),
        'R enqueued': mean_length(means),
        'R cells': mean_length(cells),
        'cell-enqueued': (cells * means[:, :, None]).sum(-1).mean(),
        'same place': (cells * other).sum(-1).mean(),
        'any place': (cells.mean(2) * other.mean(2)).sum(-1).mean(),
        'match in place': (match == place).float().mean(),
    }


class Measurements(Hook):
    """Print what :func:`measure` finds, and end the process at the end."""

    priority = 'LOWEST'

    def __init__(self, iterations: int, every: int):
        self.iterations, self.every = iterations, every

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        """Measure after the update of key encoder and queue."""
        if runner.iter % self.every == 0:
            losses = {
                name: outputs[name] for name in ('loss_image', 'loss_dense')
            }
            values = {**losses, **measure(runner.model, data_batch)}
            if runner.iter == 0:
                print('iteration', *values, sep=' | ')
            numbers = (f'{value.item():.3f}' for value in values.values())
            print(runner.iter, *numbers, sep=' | ', flush=True)
        if runner.iter + 1 >= self.iterations:
            kill_workers()
            raise SystemExit


def enqueue_cells(model) -> None:
    """Let the queue take a random cell of a view instead of its mean."""
    forward = model.key_encoder.forward

    def with_a_cell(view: Tensor):
        keys = forward(view)
        images = torch.arange(len(keys.cells))
        cell = torch.randint(keys.cells.shape[1], images.shape)
        return keys._replace(mean_cell=keys.cells[images, cell])

    model.key_encoder.forward = with_a_cell


def main(argv: list[str] | None = None) -> None:
    """Train for some iterations and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='a recipe of PixCon')
    parser.add_argument('--iterations', type=int, default=192)
    parser.add_argument('--every', type=int, default=8)
    parser.add_argument(
        '--negatives', choices=('means', 'cells'), default='means'
    )
    args = parse(parser, argv)
    with tempfile.TemporaryDirectory() as folder:
        cfg = prepare_config(args, folder)
        cfg.default_hooks.pop('checkpoint')
        cfg.default_hooks.logger.interval = args.iterations + 1
        runner = PixConRunner.from_cfg(cfg)
        if args.negatives == 'cells':
            enqueue_cells(runner.model)
        runner.register_hook(Measurements(args.iterations, args.every))
        runner.train()


if __name__ == '__main__':
    run_tool(main)
