"""SyncBN that does not keep the host waiting."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def _is_capturing() -> bool:
    """Stand in for ``torch.cuda.is_current_stream_capturing``."""
    return True


@contextmanager
def skip_search_for_empty_batches() -> Iterator[None]:
    """Leave out SyncBN's search for processes without images.

    A context manager and decorator. In each forward pass of each layer,
    PyTorch's SyncBN searches for processes whose input is empty, with boolean
    masks. The shapes of its results depend on values, so the host waits for
    the device three times, and cannot queue the next kernels meanwhile.
    PyTorch skips the search while a CUDA graph is captured, because waiting is
    impossible there (``SyncBatchNorm`` in torch/nn/modules/_functions.py).
    There is no other switch, so this makes PyTorch believe that a graph is
    being captured. The results are the same if every process has images.
    """
    original = torch.cuda.is_current_stream_capturing
    if original is _is_capturing:  # in another call, perhaps of a thread
        yield
        return
    torch.cuda.is_current_stream_capturing = _is_capturing
    try:
        yield
    finally:
        torch.cuda.is_current_stream_capturing = original
