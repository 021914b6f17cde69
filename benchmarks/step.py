"""Time of the training step: ours, the release's, MMPretrain's, the limit."""

import argparse
import sys
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmpretrain.registry import MODELS
from torch import Tensor, nn

import pixcon_mm.models  # noqa: F401, registers the models
from benchmarks.measure import Call, compare
from benchmarks.release import as_released, sgd_by_parameter
from benchmarks.report import Report
from pixcon_mm.engine.model_state import zero_momentum

PRETRAIN = Path(__file__).resolve().parents[1] / 'configs/pretrain'
MAIN = 'pixcon_r50_coco'
SGD = dict(lr=1e-3, momentum=0.9, weight_decay=1e-4)
OURS = 'ours'
RELEASE = "the release's formulation"
DENSECL = "MMPretrain's DenseCL, one direction"
LIMIT = 'limit: backbone passes alone'


def step(args: argparse.Namespace) -> Report:
    """Compare our step with the release's, MMPretrain's and the limit."""
    calls = that_fit(step_calls(args))
    rows = compare(calls, args.rounds, args.device)
    times = {row['name']: row['seconds'] for row in rows}
    one = 'times faster than DenseCL, which runs one direction'
    ratios = {
        name: factor * times[other] / times[OURS]
        for name, other, factor in (
            ('times faster than the release', RELEASE, 1),
            (one, DENSECL, 1),
            ('the same per direction', DENSECL, 2),
            ('share of the limit', LIMIT, 1),
        )
        if {OURS, other} <= {*times}
    }
    title = f'Training step, {sizes(args)}, queue {args.queue}'
    baseline = RELEASE if RELEASE in times else rows[0]['name']
    return Report(title, rows, baseline, args.batch, ratios)


def that_fit(calls: dict[str, Call]) -> dict[str, Call]:
    """Return the calls for which the GPU has enough memory.

    Raises:
        torch.OutOfMemoryError: If there are none.
    """
    fitting, error = {}, None
    for name, call in calls.items():
        try:
            call()
            fitting[name] = call
        except torch.OutOfMemoryError as failure:
            print(f'{name}: {failure}', file=sys.stderr)
            error = failure.with_traceback(None)
        torch.cuda.empty_cache()
    if error and not fitting:
        raise error
    return fitting


def sizes(args: argparse.Namespace) -> str:
    """Return a step's settings for a title."""
    return (
        f'ResNet-{args.depth}, {args.size} px, batch {args.batch}, '
        f'{args.dtype}, {args.device}'
    )


def step_calls(args: argparse.Namespace) -> dict[str, Call]:
    """Return the steps to compare, on the same views."""
    batch = random_batch(args)
    pixcon = ours(args)
    step = partial(train_step, pixcon, wrap(args, fused_sgd(pixcon)), batch)
    calls = {OURS: step}
    if not args.no_peers:
        released = prepare(as_released(model_config(MAIN, args)), args)
        by_parameter = wrap(args, sgd_by_parameter(released, **SGD))
        calls[RELEASE] = partial(train_step, released, by_parameter, batch)
        calls[DENSECL] = partial(train_step, *densecl(args), batch)
    calls[LIMIT] = limit_call(ours(args), args)
    return calls


def model_config(recipe: str, args: argparse.Namespace) -> ConfigDict:
    """Return the model config of a recipe, in the benchmark's size."""
    cfg = Config.fromfile(PRETRAIN / f'{recipe}.py').model
    width = 2048 if args.depth >= 50 else 512
    sizes = dict(depth=args.depth, in_channels=width, hid_channels=width)
    for part in (cfg.backbone, cfg.neck, cfg.head):
        part.update({k: v for k, v in sizes.items() if k in part})
        if 'norm_cfg' in part:
            part.norm_cfg = dict(type='BN')
    cfg.queue_len = args.queue
    return cfg


def prepare(model: nn.Module, args: argparse.Namespace) -> nn.Module:
    """Initialise a model, and move it to the device."""
    model.init_weights()
    return model.to(args.device).train()


def ours(args: argparse.Namespace) -> nn.Module:
    """Build our model with the fastest options."""
    cfg = model_config(MAIN, args)
    cfg.compile_backbone = args.compile
    return prepare(MODELS.build(cfg), args)


def densecl(args: argparse.Namespace) -> tuple[nn.Module, OptimWrapper]:
    """Build MMPretrain's DenseCL and its optimiser."""
    model = MODELS.build(model_config('densecl_r50_coco', args))
    model = prepare(model, args)
    return model, wrap(args, torch.optim.SGD(model.parameters(), **SGD))


def fused_sgd(model: nn.Module) -> torch.optim.SGD:
    """Build the optimiser of the main recipe: a single group, fused."""
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(params, fused=True, **SGD)
    zero_momentum(optimizer)
    return optimizer


def wrap(args: argparse.Namespace, optimizer) -> OptimWrapper:
    """Wrap an optimiser, for mixed precision unless dtype is float32."""
    if args.dtype == 'float32':
        return OptimWrapper(optimizer)
    scale = dict(enabled=args.dtype == 'float16')
    return AmpOptimWrapper(
        optimizer=optimizer, dtype=args.dtype, loss_scale=scale
    )


def random_batch(args: argparse.Namespace) -> dict:
    """Return two uint8 views with geometry, as the loader returns them."""
    shape = (args.batch, 3, args.size, args.size)
    views = [
        torch.randint(0, 256, shape, dtype=torch.uint8, device=args.device)
        for _ in range(2)
    ]
    corner = torch.rand(args.batch, 2, 2) * 200
    boxes = torch.cat(
        [corner, corner + 100 + 200 * torch.rand_like(corner)], 2
    )
    return dict(
        inputs=views,
        data_samples=dict(
            crop_boxes=boxes.to(args.device),
            flips=(torch.rand(args.batch, 2) < 0.5).to(args.device),
        ),
    )


def train_step(model: nn.Module, optim: OptimWrapper, batch: dict) -> None:
    """Run a step of the training loop on a batch."""
    model.train_step(batch, optim)
    model = getattr(model, 'module', model)
    if hasattr(model, 'after_optimizer_step'):
        model.after_optimizer_step(progress=0.0)


def limit_call(model: nn.Module, args: argparse.Namespace) -> Call:
    """Return a call of the backbones' passes alone, the limit for speed."""
    views = [
        torch.randn(args.batch, 3, args.size, args.size, device=args.device)
        for _ in range(2)
    ]
    views = [v.contiguous(memory_format=model.memory_format) for v in views]
    amp, dtype = args.dtype != 'float32', getattr(torch, args.dtype)
    grads: list[Tensor] = []

    def call() -> None:
        with torch.autocast(args.device, dtype, enabled=amp):
            queries = [model.backbone(view)[0] for view in views]
            with torch.no_grad():
                for view in views:
                    model.key_encoder.backbone(view)
        if not grads:
            grads.extend(torch.randn_like(query) for query in queries)
        torch.autograd.backward(queries, grads)
        model.backbone.zero_grad()

    return call
