"""InfoNCE against a queue of negatives, without ever building its logits.

For a query q, its positive k+ and the rows Q_n of the queue, let
s = q.k+/tau, Z = logsumexp_n(q.Q_n/tau) and o = softmax_n(q.Q_n/tau) Q. Then
the loss is softplus(Z - s), and its gradient with respect to q is
sigmoid(Z - s) (o - k+)/tau. (Z, o) is what attention returns for keys =
values = queue, so the forward pass already yields the gradient. N query rows,
C channels, K queue length. Source: docs/method.md, section 6.
"""

import logging
import math
from functools import cache
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pixcon_mm.errors import UserError

Backend = Literal['auto', 'fused', 'chunked']
CHUNK = 2048  # queue rows per chunk; 256 to 8192 are equally fast on CPU
# attend_fused() splits the queue until there are TASKS blocks of 128 query
# rows: three for each of the 264 that FlashAttention runs at a time on an
# H100, so that little of it waits for the last ones.
MAX_PARTS, TASKS = 16, 784


class InfoNCETerms(NamedTuple):
    """Loss of each query row and the two terms in it. Shapes (N,)."""

    loss: Tensor  # softplus(neg_logsumexp - pos_logit), with a gradient
    pos_logit: Tensor  # s, without a gradient
    neg_logsumexp: Tensor  # Z, without a gradient


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
    """Compute Z and o with PyTorch's attention kernels.

    A kernel shares out blocks of query rows alone, which are too few or too
    uneven in number for all processors. So parts of the queue are given to it
    as attention heads of their own, and their results are merged.

    Args:
        query (Tensor): Shape (N, C).
        queue (Tensor): Shape (K, C), of the same dtype.
        temperature (float): tau.

    Returns:
        tuple[Tensor, Tensor]: Z (N,) and o (N, C), in float32 or wider.

    Raises:
        NotImplementedError: If no kernel serves this device and dtype.
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


def attend_chunked(
    query: Tensor, queue: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Do the same as :func:`attend_fused` in plain PyTorch, by chunks.

    Sums of exponentials are kept relative to the highest logit so far, so
    that none overflows.
    """
    dtype = torch.promote_types(query.dtype, torch.float32)
    size, channels = query.shape
    peak = query.new_full((size, 1), -torch.inf, dtype=dtype)
    total = query.new_zeros((size, 1), dtype=dtype)
    mean = query.new_zeros((size, channels), dtype=dtype)
    for keys in queue.split(CHUNK):
        logits = (query @ keys.T).to(dtype).div_(temperature)
        new_peak = torch.maximum(peak, logits.amax(1, keepdim=True))
        rescale = (peak - new_peak).exp_()
        share = logits.sub_(new_peak).exp_()
        total = total.mul_(rescale).add_(share.sum(1, keepdim=True))
        mean = mean.mul_(rescale).add_(share.to(query.dtype) @ keys)
        peak = new_peak
    return (peak + total.log()).squeeze(1), mean.div_(total)


class _QueueInfoNCE(torch.autograd.Function):
    """The closed form at the top of this file; s, z and o are named there.

    The forward pass computes the gradient, and the backward pass scales it.
    """

    @staticmethod
    def forward(ctx, query, positive, queue, temperature, attend, dtype):
        z, o = attend(query.to(dtype), queue.to(dtype), temperature)
        z, o = z.to(query.dtype), o.to(query.dtype)
        s = (query * positive).sum(1) / temperature
        grad = (o - positive).mul_(
            torch.sigmoid(z - s).div_(temperature)[:, None]
        )
        ctx.save_for_backward(grad)
        ctx.mark_non_differentiable(s, z)
        return -F.logsigmoid(s - z), s, z

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_loss, *_):
        (grad,) = ctx.saved_tensors
        return grad * grad_loss[:, None], None, None, None, None, None


def autocast_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype of products with a tensor: autocast's if it is on."""
    device = tensor.device.type
    is_autocast = torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if is_autocast else tensor.dtype


def info_nce(
    query: Tensor,
    positive: Tensor,
    queue: Tensor,
    temperature: float = 0.2,
    backend: Backend = 'auto',
) -> InfoNCETerms:
    """Compute InfoNCE of every query row against its positive and the queue.

    Under autocast the products with the queue run in autocast's dtype, all
    else in float32. Neither ``positive`` nor ``queue`` gets a gradient.

    Args:
        query (Tensor): Unit rows. Shape (N, C).
        positive (Tensor): The key of each query row, unit. Shape (N, C).
        queue (Tensor): The negative keys, unit rows. Shape (K, C).
        temperature (float): tau, above 0.
        backend (str): 'fused' is an attention kernel, 'chunked' builds some
            columns of the logits at a time, 'auto' takes 'fused' if
            PyTorch has such a kernel and 'chunked' otherwise.

    Returns:
        InfoNCETerms: Loss, positive logit and log-sum-exp of the negatives of
        each query row, shape (N,).

    Example:
        >>> unit = torch.eye(3)
        >>> loss, s, z = info_nce(unit, unit, unit, temperature=1.0)
        >>> torch.allclose(loss, torch.nn.functional.softplus(z - s))
        True
    """
    dtype = autocast_dtype(query)
    positive, queue = positive.detach(), queue.detach()
    is_fused = backend == 'fused' or (
        backend == 'auto'
        and has_fused_kernel(query.device, dtype, query.shape[1])
    )
    attend = attend_fused if is_fused else attend_chunked
    with torch.autocast(query.device.type, enabled=False):
        return InfoNCETerms(
            *_QueueInfoNCE.apply(
                query, positive, queue, temperature, attend, dtype
            )
        )


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


@MODELS.register_module()
class QueueInfoNCELoss(nn.Module):
    """:func:`info_nce` as a module with fixed settings, for a config.

    Args:
        temperature (float): tau, above 0; the paper uses 0.2.
        backend (str): 'auto', 'fused' or 'chunked'; see :func:`info_nce`.
    """

    def __init__(self, temperature: float = 0.2, backend: Backend = 'auto'):
        super().__init__()
        if backend not in get_args(Backend):
            raise UserError(
                f'QueueInfoNCELoss: backend={backend!r} is unknown; '
                f'choose one of {", ".join(get_args(Backend))}.'
            )
        if temperature <= 0:
            raise UserError(
                f'QueueInfoNCELoss: temperature={temperature} must be '
                'above 0; the paper uses 0.2.'
            )
        self.temperature = temperature
        self.backend: Backend = backend

    def forward(
        self, query: Tensor, positive: Tensor, queue: Tensor
    ) -> InfoNCETerms:
        """Compute :func:`info_nce` of rows (N, C), (N, C) and (K, C)."""
        return info_nce(query, positive, queue, self.temperature, self.backend)

    def extra_repr(self) -> str:
        """Return the settings, shown when the model is printed."""
        return f'temperature={self.temperature}, backend={self.backend!r}'
