"""Mixed precision, as far as the machine supports it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from pixcon_mm.errors import UserError


def has_bfloat16() -> bool:
    """Check if the CPU has instructions for bfloat16 (AVX-512 or AMX)."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def fit_precision(wrapper: dict) -> dict:
    """Return the config of an ``AmpOptimWrapper``, changed for this machine.

    With CUDA, losses are not scaled in bfloat16, as it has the range of
    float32. A CPU computes in bfloat16 if it can, and in float32 otherwise;
    the log then says so.

    Raises:
        UserError: If MMEngine does not know the dtype.
    """
    dtype = wrapper.get('dtype')
    is_bfloat16 = dtype == 'bfloat16'
    names = AmpOptimWrapper.valid_dtypes
    if isinstance(dtype, str) and dtype not in names:
        raise UserError(
            f'The config has optim_wrapper.dtype={dtype!r}, which is none of '
            f'{", ".join(names)}.'
        )
    if torch.cuda.is_available():
        if is_bfloat16:
            return {**wrapper, 'loss_scale': dict(enabled=False)}
        return wrapper
    wrapper = {
        key: value
        for key, value in wrapper.items()
        if key not in ('dtype', 'loss_scale', 'use_fsdp')
    }
    if is_bfloat16 and has_bfloat16():
        return {**wrapper, 'type': 'CpuAmpOptimWrapper'}
    needed = 'a CPU with bfloat16 or CUDA' if is_bfloat16 else 'CUDA'
    print_log(
        f'Mixed precision needs {needed}: training runs in float32.',
        logger='current',
    )
    return {**wrapper, 'type': 'OptimWrapper'}


@OPTIM_WRAPPERS.register_module()
class CpuAmpOptimWrapper(OptimWrapper):
    """OptimWrapper whose steps run under autocast to bfloat16 on the CPU.

    MMEngine's ``AmpOptimWrapper`` refuses to run without a GPU. bfloat16 has
    the range of float32, so losses are not scaled.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the model under autocast."""
        with (
            super().optim_context(model),
            torch.autocast('cpu', dtype=torch.bfloat16),
        ):
            yield
