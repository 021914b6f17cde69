"""Peak memory of a training step on CUDA, traced without a GPU.

The step is the real one, on tensors without data: what is counted is every
storage that an operation returns, while it lives. Not in the count are what
kernels take for themselves (cuDNN's workspaces), the CUDA context (about
half a GB), and the caching allocator's rounding and fragmentation.
"""

import weakref
from typing import NamedTuple

import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.fake_cuda import (
    DEVICE,
    autocast,
    backward,
    fake_tensors,
)
from benchmarks.release import as_released


class Trace(NamedTuple):
    """Bytes on the device during a step.

    Attributes:
        static (int): Before it: weights, key encoder, queues, gradients as
            they are between two batches of one optimiser step, momentum.
        kept (int): After the forward pass.
        peak (int): At most.
        where (str): Part of the step, and operation, of the peak.
    """

    static: int
    kept: int
    peak: int
    where: str


class Storages(TorchDispatchMode):
    """Bytes that tensors hold on one type of device, now and at most.

    Args:
        device (str): Type of device.

    Example:
        >>> with Storages('cpu') as storages:
        ...     rows = torch.zeros(10) + 1  # 40 bytes and 40 more, at once
        >>> storages.now, storages.peak
        (40, 80)
    """

    def __init__(self, device: str):
        super().__init__()
        self.device = device
        self.now = self.peak = 0
        self.part = self.where = ''
        self._alive: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run an operation and count what it returns."""
        outputs = func(*args, **(kwargs or {}))
        for output in tree_leaves(outputs):
            if isinstance(output, Tensor):
                self.add(output)
        if self.now > self.peak:
            self.peak, self.where = self.now, f'{self.part}, {func}'
        return outputs

    def add(self, tensor: Tensor) -> None:
        """Count a tensor's storage, unless it is counted already."""
        storage = tensor.untyped_storage()
        address = storage._cdata
        if tensor.device.type != self.device or address in self._alive:
            return
        self._alive.add(address)
        self.now += storage.nbytes()
        weakref.finalize(storage, self._remove, address, storage.nbytes())

    def _remove(self, address: int, size: int) -> None:
        self._alive.remove(address)
        self.now -= size


def trace_step(
    model_cfg: dict,
    batch: int,
    size: int = 224,
    dtype: torch.dtype = torch.float16,
) -> Trace:
    """Predict the memory of one training step with SGD on one GPU.

    Args:
        model_cfg (dict): Config of the model; it is not compiled here.
        batch (int): Images a batch.
        size (int): Height and width of a view.
        dtype (torch.dtype): Of mixed precision; float32 for none.
    """
    cfg = {k: v for k, v in model_cfg.items() if k != 'compile_backbone'}
    # Models read numbers while they are built: tensors with data, on CPU.
    model = MODELS.build(cfg)
    with fake_tensors():
        return trace_on(model, empty_batch(batch, size), dtype, DEVICE)


def memory_rows(
    model_cfg: dict, batches: list[int], size: int, dtype: torch.dtype
) -> list[dict]:
    """Peaks of ours and of the release's formulation, by batch size."""
    rows = []
    for batch in batches:
        released = as_released(model_cfg)
        with fake_tensors():
            data = empty_batch(batch, size)
            theirs = trace_on(released, data, dtype, DEVICE)
        ours = trace_step(model_cfg, batch, size, dtype)
        for whose, trace in (('ours', ours), ('release', theirs)):
            rows.append(
                dict(name=f'batch {batch}, {whose}', **trace._asdict())
            )
    return rows


def empty_batch(batch: int, size: int) -> dict:
    """Two views and their geometry, as the loader hands them over."""
    shape = (batch, 3, size, size)
    return dict(
        inputs=[torch.zeros(shape, dtype=torch.uint8) for _ in range(2)],
        data_samples=dict(
            crop_boxes=torch.zeros(batch, 2, 4),
            flips=torch.zeros(batch, 2, dtype=torch.bool),
        ),
    )


def trace_on(
    model: nn.Module, data: dict, dtype: torch.dtype, device: str
) -> Trace:
    """Run one training step on a device and count.

    Args:
        model (nn.Module): The model, anywhere.
        data (dict): A batch in main memory.
        dtype (torch.dtype): As in :func:`trace_step`.
        device (str): Where to run.
    """
    kind = torch.device(device).type
    with Storages(kind) as storages:
        model = model.to(device).train()
        for tensor in (*model.parameters(), *model.buffers()):
            storages.add(tensor)
        trained = [p for p in model.parameters() if p.requires_grad]
        sgd = torch.optim.SGD(trained, 0.1, momentum=0.9, weight_decay=1e-4)
        for parameter in trained:
            parameter.grad = torch.zeros_like(parameter)
        sgd.step()
        storages.peak = static = storages.now

        storages.part = 'forward'
        with autocast(kind, dtype):
            # The training loop holds the views on the device, too.
            views = model.data_preprocessor(data, training=True)
            loss = sum(model.loss(**views).values())
        kept, storages.part = storages.now, 'backward'
        backward(loss)
        storages.part = 'update'
        sgd.step()
        model.after_optimizer_step(progress=0.0)
    return Trace(static, kept, storages.peak, storages.where)
