"""Attention of unit rows over a queue whose rows are both keys and values.

Of rows q (N, C) and a queue Q (K, C), it returns Z = logsumexp_n(q.Q_n/tau),
and o = softmax_n(q.Q_n/tau) Q, without ever holding all N x K logits. There
are two ways: an attention kernel of PyTorch, and chunks of the queue in plain
PyTorch. Source: docs/method.md, section 6.
"""

import logging
import math
from collections.abc import Sequence
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor

Backend = Literal['auto', 'fused', 'chunked']
# attend_chunked() builds blocks of logits: at least CHUNK columns, more if the
# block then has no more than BLOCK numbers; on the CPU, at most ROWS rows.
CHUNK, BLOCK, ROWS = 2048, 2**19, 1024
# attend_fused() splits the queue until there are TASKS blocks of 128 query
# rows: three for each of the 264 that FlashAttention runs at a time on an
# H100, so that little of it waits for the last ones.
MAX_PARTS, TASKS = 16, 784


def attend(
    query: Tensor, queue: Tensor, temperature: float, backend: Backend
) -> tuple[Tensor, Tensor]:
    """Compute Z and o of every query row.

    Args:
        query (Tensor): Shape (N, C).
        queue (Tensor): Shape (K, C), of the same dtype.
        temperature (float): tau, above 0.
        backend (str): 'fused' is an attention kernel, 'chunked' builds some
            columns of the logits at a time, 'auto' is the faster one here.

    Returns:
        tuple[Tensor, Tensor]: Z (N,) and o (N, C), in float32 or wider.

    Raises:
        NotImplementedError: If the backend is 'fused', and no kernel serves
            this device and dtype.
    """
    if backend == 'auto':
        backend = fastest_backend(query.device, query.dtype, query.shape[1])
    way = attend_fused if backend == 'fused' else attend_chunked
    return way(query, queue, temperature)


def kernel_input(rows: Tensor) -> Tensor:
    """Lay rows (N, C) out the way PyTorch's private attention kernels assume.

    The kernels skip the checks and the padding of the public function: on
    the CPU they read rows of any other layout as if packed, and on CUDA
    they need 16-byte vectors. Rows that fit are not copied.

    Returns:
        Tensor: Shape (1, 1, N, C). On CUDA, C is padded with zeros to a
        multiple of 8.
    """
    # A dimension of size one may have any stride, even in a contiguous
    # tensor. The two views set the strides that the shape implies.
    rows = rows.contiguous().view(-1).view(rows.shape)
    if rows.device.type == 'cuda':
        if rows.shape[1] % 8:
            rows = F.pad(rows, (0, -rows.shape[1] % 8))
        if rows.storage_offset() * rows.element_size() % 16:
            rows = rows.clone()
    return rows[None, None]


def count_parts(queries: int, keys: int) -> int:
    """Choose into how many parts of equal length a queue is split.

    Example:
        >>> count_parts(25088, 65536), count_parts(512, 65536)
        (4, 16)
    """
    parts, blocks = 1, math.ceil(queries / 128)
    while parts < MAX_PARTS and blocks * parts < TASKS and not keys % 2:
        parts, keys = 2 * parts, keys // 2
    return parts


def attend_fused(
    query: Tensor, queue: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Do the same as :func:`attend` with PyTorch's attention kernels.

    A kernel shares out blocks of query rows alone, which are too few or too
    uneven in number for all processors. So parts of the queue are given to it
    as attention heads of their own, and their results are merged.
    """
    if not len(query):  # the kernel on the CPU would divide by zero
        return attend_chunked(query, queue, temperature)
    parts = count_parts(len(query), len(queue))
    q, k = kernel_input(query), kernel_input(queue)
    q = q.repeat(1, parts, 1, 1)
    k = k.view(1, parts, -1, k.shape[3])
    ops, scale = torch.ops.aten, 1 / temperature
    device, dtype = query.device.type, query.dtype
    if device == 'cpu':
        means, log_sums = ops._scaled_dot_product_flash_attention_for_cpu(
            q, k, k, scale=scale
        )
    elif device == 'cuda' and dtype in (torch.float16, torch.bfloat16):
        means, log_sums = ops._scaled_dot_product_flash_attention(
            q, k, k, scale=scale
        )[:2]
    elif device == 'cuda' and dtype == torch.float32:
        means, log_sums = ops._scaled_dot_product_efficient_attention(
            q, k, k, None, compute_log_sumexp=True, scale=scale
        )[:2]
    else:
        raise NotImplementedError(
            f'PyTorch has no attention kernel for {dtype} on {device}'
        )
    # The memory-efficient kernel pads the log-sums to a multiple of 32 rows.
    log_sums = log_sums[0, :, : len(query)]
    log_sum = log_sums.logsumexp(0)
    share = (log_sums - log_sum).exp()
    means = means[0, ..., : query.shape[1]].to(share.dtype)
    return log_sum, torch.einsum('pn,pnc->nc', share, means)


def linear(rows: Tensor, weight: Tensor) -> Tensor:
    """Compute ``rows @ weight.T``, on the CPU in float32 with oneDNN.

    PyTorch's own choice is MKL, which uses only half the width of the vector
    units of AMD's processors with AVX-512.
    """
    # torch.compile fails to lower the operator.
    compiling = torch.compiler.is_compiling()
    if not compiling and has_onednn_linear(rows.device, rows.dtype):
        return _onednn_linear(rows, weight)
    return F.linear(rows, weight)


def _onednn_linear(rows: Tensor, weight: Tensor) -> Tensor:
    """Call an operator that is private to PyTorch; a version may lack it."""
    return torch.ops.mkldnn._linear_pointwise(
        rows, weight, None, 'none', [], ''
    )


@cache
def has_onednn_linear(device: torch.device, dtype: torch.dtype) -> bool:
    """Check if PyTorch has oneDNN's product for rows of this kind."""
    if device.type != 'cpu' or dtype != torch.float32:
        return False
    rows = torch.ones(8, 8)
    try:
        _onednn_linear(rows, rows)
    except (NotImplementedError, AttributeError, RuntimeError):
        return False
    return True


def attend_chunked(
    query: Tensor, queue: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Do the same as :func:`attend` in plain PyTorch, by chunks of the queue.

    On the CPU a block of logits has few query rows, so that it stays in the
    caches; if there are few rows at all, the chunks are longer.
    """
    rows = min(len(query), ROWS) if query.device.type == 'cpu' else len(query)
    rows = max(rows, 1)
    chunks = queue.split(max(CHUNK, BLOCK // rows))
    parts = [_attend_rows(q, chunks, temperature) for q in query.split(rows)]
    log_sums, means = zip(*parts, strict=True)
    return torch.cat(log_sums), torch.cat(means)


def _attend_rows(
    query: Tensor, chunks: Sequence[Tensor], temperature: float
) -> tuple[Tensor, Tensor]:
    """Compute Z and o of query rows, one chunk of the queue after another.

    Sums of exponentials are kept relative to the highest logit so far, so
    that none overflows.
    """
    dtype = torch.promote_types(query.dtype, torch.float32)
    if query.dtype == dtype:
        # Half precision would round q/tau, so its logits are divided instead.
        query, temperature = query / temperature, 1.0
    size, channels = query.shape
    peak = query.new_full((size, 1), -torch.inf, dtype=dtype)
    total = query.new_zeros((size, 1), dtype=dtype)
    mean = query.new_zeros((size, channels), dtype=dtype)
    for keys in chunks:
        logits = linear(query, keys).to(dtype)
        if temperature != 1:
            logits.div_(temperature)
        new_peak = torch.maximum(peak, logits.amax(1, keepdim=True))
        rescale = (peak - new_peak).exp_()
        share = logits.sub_(new_peak).exp_()
        total = total.mul_(rescale).add_(share.sum(1, keepdim=True))
        mean = mean.mul_(rescale).add_(linear(share.to(query.dtype), keys.T))
        peak = new_peak
    return (peak + total.log()).squeeze(1), mean.div_(total)


def fastest_backend(
    device: torch.device, dtype: torch.dtype, channels: int
) -> Backend:
    """Choose 'fused' or 'chunked'.

    An attention kernel is faster than chunks, except on the CPU in float32,
    where it multiplies with MKL, and chunks with oneDNN (:func:`linear`).
    Measured on an AMD EPYC.
    """
    if has_onednn_linear(device, dtype):
        return 'chunked'
    is_fused = has_fused_kernel(device, dtype, channels)
    return 'fused' if is_fused else 'chunked'


@cache
def has_fused_kernel(
    device: torch.device, dtype: torch.dtype, channels: int
) -> bool:
    """Check if :func:`attend_fused` runs for rows of this kind."""
    rows = torch.ones(8, channels, device=device, dtype=dtype)
    try:
        attend_fused(rows, rows, 1.0)
    except torch.OutOfMemoryError:
        raise
    except (NotImplementedError, AttributeError, RuntimeError) as error:
        # The kernels are private to PyTorch: another version may differ.
        print_log(
            f'InfoNCE in {dtype} on {device} is slower, without an attention '
            f'kernel: {str(error).splitlines()[0]}',
            logger='current',
            level=logging.WARNING,
        )
        return False
    return True
