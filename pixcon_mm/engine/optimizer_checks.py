"""Checks of an optimiser's step before it is taken."""

import torch
from torch import Tensor
from torch.optim import Optimizer

from pixcon_mm.errors import UserError


def gradient_norm(optimizer: Optimizer) -> Tensor:
    """Compute the L2 norm of all gradients, without a host sync.

    Gradients that a loss scaler has multiplied count as they were before.

    Returns:
        Tensor: A scalar on the gradients' device; 0 if there are none.
    """
    gradients = [
        parameter.grad
        for group in optimizer.param_groups
        for parameter in group['params']
        if parameter.grad is not None
    ]
    if not gradients:
        return torch.zeros(())
    norm = torch.stack(torch._foreach_norm(gradients)).norm()
    # Set by GradScaler for optimisers that divide by it themselves.
    scale = getattr(optimizer, 'grad_scale', None)
    return norm if scale is None else norm / scale


class LayoutCheck:
    """Check once that an optimiser's tensors lie in memory alike.

    A fused optimiser walks through parameter, gradient and momentum by their
    addresses. If they lie differently, as after a change of the memory format
    behind the back of DistributedDataParallel, it silently adds gradients to
    the wrong weights. Runs before the first step, and before the second one,
    when there are momentum buffers.

    Args:
        optimizer (Optimizer): The optimiser.
        names (dict[Tensor, str]): Names of its parameters, for messages.

    Raises:
        UserError: In ``optimizer.step()``, before anything has changed.
    """

    def __init__(self, optimizer: Optimizer, names: dict[Tensor, str]):
        self.names, self._left = names, 2
        optimizer.register_step_pre_hook(self)

    def __call__(
        self, optimizer: Optimizer, args: tuple, kwargs: dict
    ) -> None:
        """Check all parameters."""
        if not self._left:
            return
        self._left -= 1
        for group in optimizer.param_groups:
            for parameter in group['params']:
                self._check(parameter, optimizer.state.get(parameter, {}))

    def _check(self, parameter: Tensor, state: dict) -> None:
        others = dict(gradient=parameter.grad, **state)
        for name, other in others.items():
            if (
                not isinstance(other, Tensor)
                or other.shape != parameter.shape
                or other.layout != torch.strided
                or _strides(other) == _strides(parameter)
            ):
                continue
            raise UserError(
                f'{self.names.get(parameter, "A parameter")} of shape '
                f'{tuple(parameter.shape)} has strides {parameter.stride()} '
                f'in memory and its {name.replace("_", " ")} '
                f'{other.stride()}: a fused optimiser would mix them up. '
                'Choose the memory format (channels_last) before the model '
                'is wrapped for several processes, in its constructor.'
            )


def _strides(tensor: Tensor) -> list[int]:
    """Strides of the dimensions in which anything is strided."""
    return [
        stride
        for stride, size in zip(tensor.stride(), tensor.shape, strict=True)
        if size > 1
    ]
