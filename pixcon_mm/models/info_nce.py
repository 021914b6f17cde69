"""InfoNCE against a queue of negatives, without ever building its logits.

For a query q, its positive k+ and the rows Q_n of the queue, let
s = q.k+/tau, Z = logsumexp_n(q.Q_n/tau) and o = softmax_n(q.Q_n/tau) Q. Then
the loss is softplus(Z - s), and its gradient with respect to q is
sigmoid(Z - s) (o - k+)/tau. (Z, o) is what attention returns for keys =
values = queue, so the forward pass already yields the gradient. N query rows,
C channels, K queue length. Source: docs/method.md, section 6.
"""

from typing import NamedTuple, get_args

import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pixcon_mm.errors import UserError
from pixcon_mm.models.queue_attention import Backend, attend


class InfoNCETerms(NamedTuple):
    """Loss of each query row and the two terms in it. Shapes (N,)."""

    loss: Tensor  # softplus(neg_logsumexp - pos_logit), with a gradient
    pos_logit: Tensor  # s, without a gradient
    neg_logsumexp: Tensor  # Z, without a gradient


class _QueueInfoNCE(torch.autograd.Function):
    """The closed form at the top of this file; s, z and o are named there.

    The forward pass computes the gradient, and the backward pass scales it.
    """

    @staticmethod
    def forward(ctx, query, positive, queue, temperature, backend, dtype):
        z, o = attend(query.to(dtype), queue.to(dtype), temperature, backend)
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
        backend (str): How to compare with the queue, see :func:`attend`.

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
    with torch.autocast(query.device.type, enabled=False):
        return InfoNCETerms(
            *_QueueInfoNCE.apply(
                query, positive, queue, temperature, backend, dtype
            )
        )


@MODELS.register_module()
class QueueInfoNCELoss(nn.Module):
    """:func:`info_nce` as a module with fixed settings, for a config.

    Args:
        temperature (float): tau, above 0; the paper uses 0.2.
        backend (str): 'auto', 'fused' or 'chunked'; see :func:`attend`.
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
