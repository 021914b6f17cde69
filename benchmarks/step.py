"""The whole training step: ours, the release's, MMPretrain's, the limit."""

import argparse

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from benchmarks.measure import Call
from benchmarks.release import as_released, sgd_by_parameter

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
SGD = dict(lr=1e-3, momentum=0.9, weight_decay=1e-4)
OURS = 'ours'
RELEASE = "the release's formulation"
DENSECL = "MMPretrain's DenseCL, one direction"
LIMIT = 'limit: backbone passes alone'


def pixcon_config(args: argparse.Namespace, **options) -> dict:
    """PixCon-SR at the benchmark's size, otherwise the main recipe."""
    norm_cfg = dict(type='BN')
    width = 2048 if args.depth >= 50 else 512
    sizes = dict(hid_channels=width, norm_cfg=norm_cfg)
    return dict(
        type='PixCon',
        queue_len=args.queue,
        data_preprocessor=dict(mean=MEAN, std=STD, bgr_to_rgb=True),
        backbone=backbone_config(args),
        neck=dict(
            type='PixConNeck', in_channels=width, out_channels=128, **sizes
        ),
        head=dict(
            type='PixConHead',
            channels=128,
            reweight=dict(power=2, use_mask=True),
            loss=dict(type='QueueInfoNCELoss', temperature=0.2),
            **sizes,
        ),
        **options,
    )


def backbone_config(args: argparse.Namespace) -> dict:
    """The backbone that all of them share."""
    return dict(
        type='ResNet',
        depth=args.depth,
        norm_cfg=dict(type='BN'),
        zero_init_residual=False,
    )


def densecl_config(args: argparse.Namespace) -> dict:
    """MMPretrain's DenseCL with the same backbone, width and queue."""
    width = 2048 if args.depth >= 50 else 512
    return dict(
        type='DenseCL',
        queue_len=args.queue,
        feat_dim=128,
        momentum=0.001,
        loss_lambda=0.5,
        data_preprocessor=dict(
            type='SelfSupDataPreprocessor', mean=MEAN, std=STD, to_rgb=True
        ),
        backbone=backbone_config(args),
        neck=dict(
            type='DenseCLNeck',
            in_channels=width,
            hid_channels=width,
            out_channels=128,
            num_grid=None,
        ),
        head=dict(
            type='ContrastiveHead',
            loss=dict(type='CrossEntropyLoss'),
            temperature=0.2,
        ),
    )


def random_batch(args: argparse.Namespace) -> dict:
    """Two uint8 views with geometry, as the loader hands them over."""
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


def wrap(args: argparse.Namespace, optimizer) -> OptimWrapper:
    """Mixed precision where it is asked for and there is CUDA."""
    if args.dtype == 'float32':
        return OptimWrapper(optimizer)
    scale = dict(enabled=args.dtype == 'float16')
    return AmpOptimWrapper(
        optimizer=optimizer, dtype=args.dtype, loss_scale=scale
    )


def train_call(
    model: nn.Module, optim_wrapper: OptimWrapper, batch: dict
) -> Call:
    """One training step on a batch that lies on the device."""

    def call() -> None:
        model.train_step(batch, optim_wrapper)
        if hasattr(model, 'after_optimizer_step'):
            model.after_optimizer_step(progress=0.0)

    return call


def build(model: nn.Module, args: argparse.Namespace) -> nn.Module:
    """Initialise a model on the device."""
    model.init_weights()
    return model.to(args.device).train()


def ours(args: argparse.Namespace) -> nn.Module:
    """Our model with the fastest options."""
    cfg = pixcon_config(
        args, channels_last=True, compile_backbone=args.compile
    )
    return build(MODELS.build(cfg), args)


def fused_sgd(model: nn.Module) -> torch.optim.SGD:
    """The main recipe's optimiser: one group, one kernel."""
    params = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.SGD(params, fused=True, **SGD)


def limit_call(model: nn.Module, args: argparse.Namespace) -> Call:
    """What no method can go below: the passes of the two backbones."""
    views = [
        torch.randn(args.batch, 3, args.size, args.size, device=args.device)
        for _ in range(2)
    ]
    views = [v.contiguous(memory_format=model.memory_format) for v in views]
    amp = args.dtype != 'float32'
    dtype = getattr(torch, args.dtype)
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


def step_calls(args: argparse.Namespace) -> dict[str, Call]:
    """The four steps to compare, on the same views."""
    batch = random_batch(args)
    mine = ours(args)
    released = build(as_released(pixcon_config(args)), args)
    dense = build(MODELS.build(densecl_config(args)), args)
    plain = torch.optim.SGD(dense.parameters(), **SGD)
    by_parameter = sgd_by_parameter(released, **SGD)
    return {
        OURS: train_call(mine, wrap(args, fused_sgd(mine)), batch),
        RELEASE: train_call(released, wrap(args, by_parameter), batch),
        DENSECL: train_call(dense, wrap(args, plain), batch),
        LIMIT: limit_call(ours(args), args),
    }
