"""SyncBN that does not keep the host waiting."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def _is_capturing() -> bool:
    """Stand in for ``torch.cuda.is_current_stream_capturing``."""
    return True


@contextmanager
def no_empty_batches() -> Iterator[None]:
    """Tell SyncBN, also as a decorator, that every process has images.

    In each forward pass of each layer, PyTorch's SyncBN searches for processes
    whose input is empty, with boolean masks. Their result decides on shapes,
    so the host waits for the device three times, and cannot queue the next
    kernels meanwhile. PyTorch leaves the search out while a CUDA graph is
    captured, where waiting is impossible (``SyncBatchNorm`` in
    torch/nn/modules/_functions.py). There is no other switch, so this makes it
    believe that one is captured. The results are the same.
    """
    original = torch.cuda.is_current_stream_capturing
    torch.cuda.is_current_stream_capturing = _is_capturing
    try:
        yield
    finally:
        torch.cuda.is_current_stream_capturing = original
