"""State of a model in training: mode, finite values, momentum, layout."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.hooks import EMAHook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from pixcon_mm.errors import UserError


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model inside a wrapper such as DDP, or the model itself."""
    return model.module if is_model_wrapper(model) else model


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put all modules into evaluation mode, and restore their modes after."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def ema_hook(runner: Runner) -> EMAHook | None:
    """Return the hook that averages the weights, if there is one."""
    hooks = (hook for hook in runner.hooks if isinstance(hook, EMAHook))
    return next(hooks, None)


def validated_model(runner: Runner) -> nn.Module:
    """Return the model whose weights validations and checkpoints have.

    With an EMAHook, this is the moving average.
    """
    hook = ema_hook(runner)
    return hook.ema_model.module if hook else unwrap(runner.model)


def find_non_finite(tensors: dict[str, Tensor]) -> list[str]:
    """Find the tensors with a value that is not finite.

    Costs one pass over them and one host sync for each device and dtype.

    Args:
        tensors (dict[str, Tensor]): By name, on one device or several.

    Returns:
        list[str]: Names; integers are always finite.

    Example:
        >>> find_non_finite({'a': torch.ones(2), 'b': torch.tensor([0, 1e39])})
        ['b']
    """
    floats: dict[tuple, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel():
            kind = (tensor.device, tensor.dtype)
            floats.setdefault(kind, {})[name] = tensor.detach()
    found = []
    for group in floats.values():
        norms = torch._foreach_norm([*group.values()])
        finite = torch.stack([n.float() for n in norms]).isfinite().tolist()
        found += [
            name
            for (name, tensor), ok in zip(group.items(), finite, strict=True)
            # The norm of large finite values may overflow.
            if not ok and not tensor.isfinite().all()
        ]
    return found


def check_batch_norms(model: nn.Module) -> None:
    """Check that SyncBN can replace the batch norms of a model.

    Raises:
        UserError: If one does more than normalise.
    """
    plain = (_BatchNorm.forward, nn.SyncBatchNorm.forward)
    for name, layer in model.named_modules():
        if isinstance(layer, _BatchNorm) and type(layer).forward not in plain:
            raise UserError(
                f'The config has sync_bn, and {name} is a '
                f'{type(layer).__name__}, which does more than normalise, '
                'such as an activation. SyncBN would not, so training would '
                'change the network: leave sync_bn out.'
            )


def gradient_norm(optimizer: Optimizer) -> Tensor:
    """Compute the L2 norm of all gradients, without a host sync.

    The norm is that of unscaled gradients if there is a loss scaler.

    Returns:
        Tensor: A scalar on the gradients' device; 0 if there are none.
    """
    gradients = [
        parameter.grad
        for group in optimizer.param_groups
        for parameter in group['params']
        if parameter.grad is not None
    ]
    norm = get_total_norm(gradients)
    # Set by GradScaler for optimisers that divide by it themselves.
    scale = getattr(optimizer, 'grad_scale', None)
    return norm if scale is None else norm / scale


def zero_momentum(optimizer: Optimizer) -> None:
    """Let the momentum of a fused SGD start at zero, before its first step.

    PyTorch allocates the momentum in the first step, without filling it. If
    that step overflows in half precision, the kernel does nothing, and later
    steps would read what happened to be in memory. From zero, the first step
    gives the same momentum as in PyTorch, the gradient, unless there is
    dampening, which is left alone.

    Args:
        optimizer (Optimizer): Optimiser of any kind; only a fused SGD
            changes.
    """

    def fill(optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        for group in optimizer.param_groups:
            has_momentum = group['momentum'] and not group['dampening']
            if not (has_momentum and group['fused']):
                continue
            for parameter in group['params']:
                if parameter.grad is None:
                    continue
                state = optimizer.state[parameter]
                if state.get('momentum_buffer') is None:
                    state['momentum_buffer'] = torch.zeros_like(parameter)

    if isinstance(optimizer, torch.optim.SGD):
        optimizer.register_step_pre_hook(fill)


class LayoutCheck:
    """Check that parameters, gradients and momenta have one memory layout.

    A fused optimiser reads parameter, gradient and momentum in the order of
    memory. If their strides differ, say after a change of memory format that
    DistributedDataParallel did not see, it silently adds gradients to the
    wrong weights. The check runs before the first step, and before the second
    one, when there are momentum buffers.

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
        for name, other in dict(gradient=parameter.grad, **state).items():
            if (
                isinstance(other, Tensor)
                and other.shape == parameter.shape
                and other.layout == torch.strided
                and _strides(other) != _strides(parameter)
            ):
                raise UserError(
                    f'{self.names.get(parameter, "A parameter")} of shape '
                    f'{tuple(parameter.shape)} has strides '
                    f'{parameter.stride()} in memory and its '
                    f'{name.replace("_", " ")} {other.stride()}: a fused '
                    'optimiser would mix them up. Choose the memory format '
                    '(channels_last) before the model is wrapped for several '
                    'processes, in its constructor.'
                )


def _strides(tensor: Tensor) -> list[int]:
    """Return the strides of dimensions of more than one element."""
    return [
        stride
        for stride, size in zip(tensor.stride(), tensor.shape, strict=True)
        if size > 1
    ]
