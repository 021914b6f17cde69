"""Memory of a training step, traced with tensors without data.

Every storage is counted as long as it exists. Memory inside of kernels, the
CUDA context and gaps of the allocator are not counted.
"""

import argparse
import gc
import weakref

import torch
from mmpretrain.registry import MODELS
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

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


class Tracker(TorchDispatchMode):
    """Counter of the bytes of all storages that operations create.

    Args:
        tensors (list[Tensor]): Tensors that exist already.

    Attributes:
        now (int): Bytes that exist now.
        peak (int): Largest number of bytes that existed at the same time.
        moved (int): Bytes that operations read and wrote.
        operations (int): Number of operations, without views.
    """

    def __init__(self, tensors: list[Tensor]):
        super().__init__()
        self.live: dict[int, int] = {}
        self.now = self.peak = self.moved = self.operations = 0
        for tensor in tensors:
            self.add(tensor)

    def add(self, tensor: Tensor) -> None:
        """Count the storage of a tensor until it is freed."""
        storage = tensor.untyped_storage()
        if id(storage) in self.live:
            return
        self.live[id(storage)] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, id(storage))

    def _free(self, number: int) -> None:
        self.now -= self.live.pop(number)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run an operation and count the tensors that it returns."""
        out = func(*args, **(kwargs or {}))
        returned = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        for tensor in returned:
            self.add(tensor)
        if not func.is_view:
            taken = tree_leaves((args, kwargs))
            read = [t for t in taken if isinstance(t, Tensor)]
            self.moved += sum(t.nbytes for t in read + returned)
            self.operations += 1
        return out


class MemoryReport(Report):
    """Report whose rows have ``peak`` and ``moved`` bytes, and ``calls``."""

    def show(self) -> None:
        """Print the table and the ratios."""
        headings = 'peak GB', 'GB read and written', 'operations'
        table = Table('what', *headings, title=self.title)
        for row in self.rows:
            gigabytes = (f'{row[key] / 1e9:.1f}' for key in ('peak', 'moved'))
            table.add_row(row['name'], *gigabytes, f'{row["calls"]}')
        Console(width=max(Console().width, 100)).print(table)
        for name, value in self.ratios.items():
            print(f'{name}: {value:.3g}')


def memory(args: argparse.Namespace) -> Report:
    """Trace the peak memory of our step and of the release's."""
    rows = [trace(name, args) for name in (OURS, RELEASE)]
    ours, released = (row['peak'] for row in rows)
    title = f'Traced memory of a step, {sizes(args)}, queue {args.queue}'
    ratios = {"share of the release's formulation": ours / released}
    return MemoryReport(title, rows, RELEASE, args.batch, ratios)


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
        tensors = [*model.parameters(), *model.buffers()]
        step(model, sgd, args)  # creates the optimiser's state
        tensors += [s['momentum_buffer'] for s in sgd.state.values()]
        gc.collect()
        tracker = Tracker(tensors)
        with tracker:
            step(model, sgd, args)
    return dict(
        name=name,
        peak=tracker.peak,
        moved=tracker.moved,
        calls=tracker.operations,
    )


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
