"""Memory of a training step, traced with tensors without data.

PyTorch's MemTracker counts every storage as long as it exists. Memory inside
kernels, the CUDA context and gaps of the allocator are not counted.
"""

import argparse
import gc

import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

from benchmarks.release import as_released, sgd_by_parameter
from benchmarks.report import Report
from benchmarks.step import (
    MAIN,
    OURS,
    RELEASE,
    SGD,
    fused_sgd,
    model_config,
    random_batch,
    sizes,
)


class PeakTracker(MemTracker):
    """PyTorch's tracker, for models with parameters that are not trained.

    It would install a hook on the gradient of every parameter, and frozen
    ones have none.
    """

    def _track_module_params_and_buffers(
        self, module: nn.Module, install_grad_hooks: bool = True
    ) -> tuple[int, int]:
        return super()._track_module_params_and_buffers(module, False)


def memory(args: argparse.Namespace) -> Report:
    """Trace the peak memory of our step and of the release's."""
    rows = [trace(name, args) for name in (OURS, RELEASE)]
    ours, released = (row['peak'] for row in rows)
    title = f'Traced memory of a step, {sizes(args)}, queue {args.queue}'
    columns = {'peak GB': lambda row: f'{row["peak"] / 1e9:.1f}'}
    ratios = {"share of the release's formulation": ours / released}
    return Report(title, rows, columns=columns, ratios=ratios)


def trace(name: str, args: argparse.Namespace) -> dict:
    """Trace the second step of a formulation, ``OURS`` or ``RELEASE``."""
    cfg = model_config(MAIN, args)
    model = MODELS.build(cfg) if name == OURS else as_released(cfg)
    model.train()
    with FakeTensorMode():
        forget_numbers(model)
        if name == OURS:
            sgd = fused_sgd(model)
        else:
            sgd = sgd_by_parameter(model, **SGD)
        step(model, sgd, args)  # creates the optimiser's state
        gc.collect()
        tracker = PeakTracker()
        tracker.track_external(model, sgd)
        with tracker:
            step(model, sgd, args)
    (peaks,) = tracker.get_tracker_snapshot('peak').values()
    return dict(name=name, peak=peaks['Total'])


def forget_numbers(model: nn.Module) -> None:
    """Replace parameters and buffers by fake tensors of the same layout."""
    model._has_updated = True  # skips a check that compares values
    for module in model.modules():
        for name, p in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(fake(p), p.requires_grad))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, fake(buffer))


def fake(tensor: Tensor) -> Tensor:
    """Return a tensor of the same layout, without data under fake mode."""
    return torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype
    )


def step(
    model: nn.Module, sgd: torch.optim.SGD, args: argparse.Namespace
) -> None:
    """Run a training step in mixed precision, as MMEngine does on a GPU."""
    dtype = getattr(torch, args.dtype)
    is_mixed = dtype != torch.float32
    data = random_batch(args)
    with torch.autocast('cpu', dtype, enabled=is_mixed):
        inputs = model.data_preprocessor(data, training=True)
        loss = sum(model(**inputs, mode='loss').values())
    loss.backward()
    sgd.step()
    sgd.zero_grad()
    model.after_optimizer_step(progress=0.0)
