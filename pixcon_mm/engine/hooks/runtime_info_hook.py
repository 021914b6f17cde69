"""Losses and gradient norms, read from the device when a line is logged."""

import math
import time
from typing import Any, NamedTuple

import torch
from mmengine.hooks import RuntimeInfoHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from pixcon_mm.engine.log_line import is_logging_iteration
from pixcon_mm.engine.model_state import (
    find_non_finite,
    gradient_norm,
    unwrap,
)
from pixcon_mm.errors import UserError

# Steps skipped in a row. A loss scaler that has halved its scale this often
# will not find one that works.
MAX_SKIPPED = 50
MAX_FILES = 8  # named in an error
PATIENCE = 3.0  # seconds that another process has to name the cause
ADVICE = (
    'the training has diverged, and no checkpoint is written from here on. '
    'Resume from the last one, or start over, with a lower learning rate or '
    'a longer warm-up'
)
# Values kept of each scalar. MMEngine copies all of them at each iteration,
# and keeps a million.
HISTORY = 10_000


class Step(NamedTuple):
    """Values of a step, still on their device."""

    iteration: int  # counted from 1
    values: dict[str, Tensor]  # losses and gradient norm, scalars
    files: list[str]  # images of the batch, as far as known


@HOOKS.register_module()
class DeferredRuntimeInfoHook(RuntimeInfoHook):
    """RuntimeInfoHook without a host sync at each iteration.

    MMEngine's hook reads each loss with ``.item()`` and so waits for the
    device, once for each loss of each step. Here, losses and the norm of the
    gradient stay on the device until a line is logged or a checkpoint is
    written, and are then copied to the host together. The message hub gets
    the same values in the same order.

    This hook also ends a run whose losses, gradients or weights are not
    finite. With a loss scaler, some losses and gradients that are not finite
    are normal: the scaler skips their steps.

    Raises:
        UserError: If a value is not finite. The error names the value, the
            iteration and the images.
    """

    def __init__(self):
        self._waiting: list[Step] = []
        self._norm: Tensor | None = None
        self._norm_name = 'grad_norm'
        self._skipped = self._in_a_row = self._reported = 0

    def before_train(self, runner: Runner) -> None:
        """Measure gradients right before each step of the optimiser."""
        super().before_train(runner)
        wrapper = runner.optim_wrapper
        # With clipping, MMEngine logs the norm before clipping as grad_norm.
        is_clipped = bool(getattr(wrapper, 'clip_grad_kwargs', None))
        self._norm_name = 'clipped_grad_norm' if is_clipped else 'grad_norm'
        wrapper.optimizer.register_step_pre_hook(self._measure)

    def _measure(self, optimizer, args: tuple, kwargs: dict) -> None:
        self._norm = gradient_norm(optimizer)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        """Keep the step's values; read all of them at a logging iteration."""
        values = {
            name: torch.as_tensor(value).detach()
            for name, value in (outputs or {}).items()
        }
        if runner.optim_wrapper.should_update() and is_scaled(runner):
            # A loss scaler that skips a step may not call the optimiser, and
            # then _measure does not replace this value.
            values[self._norm_name] = torch.tensor(math.inf)
        if self._norm is not None:
            values[self._norm_name], self._norm = self._norm, None
        self._waiting.append(
            Step(runner.iter + 1, values, image_files(data_batch))
        )
        if not is_logging_iteration(runner, batch_idx):
            return
        self.read(runner)
        # Some weights can become NaN without any effect on the losses.
        exempt = getattr(runner, 'unbounded', ())
        for name in find_non_finite(unwrap(runner.model).state_dict()):
            if name not in exempt:
                raise UserError(
                    f'{name} is not finite at iteration {runner.iter + 1}: '
                    f'{ADVICE}.'
                )

    def read(self, runner: Runner) -> None:
        """Read waiting values, check them, pass them to the message hub."""
        steps, self._waiting = self._waiting, []
        values = iter(
            read_scalars([v for s in steps for v in s.values.values()])
        )
        scaled = is_scaled(runner)
        for step in steps:
            numbers = {name: next(values) for name in step.values}
            bad = [n for n, v in numbers.items() if is_failure(n, v)]
            if scaled and self._norm_name in numbers:
                is_skipped = self._norm_name in bad
                self._skipped += is_skipped
                self._in_a_row = self._in_a_row + 1 if is_skipped else 0
            if bad and (not scaled or self._in_a_row > MAX_SKIPPED):
                _stop(step, bad, numbers, runner.world_size)
            for name, value in numbers.items():
                if name not in bad:
                    runner.message_hub.update_scalar(f'train/{name}', value)
        for history in runner.message_hub.log_scalars.values():
            history.max_length = HISTORY
        if self._skipped > self._reported:
            self._reported = self._skipped
            runner.logger.info(
                f'{self._skipped} steps so far had values beyond half '
                'precision and were skipped by the loss scaler, which is '
                'normal now and then.'
            )


def is_scaled(runner: Runner) -> bool:
    """Check if the run scales its losses, against underflow in float16."""
    scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
    return scaler is not None and scaler.is_enabled()


def read_scalars(tensors: list[Tensor]) -> list[float]:
    """Copy scalars to the host, all at once."""
    if not tensors:
        return []
    tensors = [torch.as_tensor(t).detach().reshape(()) for t in tensors]
    device = max((t.device for t in tensors), key=lambda d: d.type != 'cpu')
    return torch.stack([t.to(device, torch.float64) for t in tensors]).tolist()


def is_failure(name: str, value: float) -> bool:
    """Check if a value is not finite although it must be.

    Example:
        >>> is_failure('loss_dense', float('nan')), is_failure('acc', 1.0)
        (True, False)
    """
    must_be_finite = 'loss' in name or name.endswith('grad_norm')
    return must_be_finite and not math.isfinite(value)


def _stop(
    step: Step, bad: list[str], numbers: dict[str, float], processes: int
) -> None:
    """End the run because values of a step are not finite."""
    losses = [name for name in bad if 'loss' in name]
    # A part of the loss says more than the sum.
    worst = next((n for n in losses if n != 'loss'), bad[0])
    text = f'{worst} is {numbers[worst]} at iteration {step.iteration}'
    finite = [f'{n} {v:.4g}' for n, v in numbers.items() if math.isfinite(v)]
    if finite:
        text += f' ({", ".join(finite)})'
    text += f': {ADVICE}'
    if not losses and processes > 1:
        # Gradients are averaged over the processes: wait for the one with the
        # bad loss, whose error names the loss.
        time.sleep(PATIENCE)
        raise UserError(f'{text}.')
    if step.files:
        more = len(step.files) - MAX_FILES
        text += f'; images of the batch: {", ".join(step.files[:MAX_FILES])}'
        text += f' and {more} more' if more > 0 else ''
    raise UserError(f'{text}.', is_own=True)


def image_files(data_batch: Any) -> list[str]:
    """List the image files of a collated batch, as far as it knows them."""
    if not isinstance(data_batch, dict):
        return []
    samples = data_batch.get('data_samples')
    if isinstance(samples, dict):  # of PackTwoViewInputs
        return list(samples.get('img_path', ()))
    return [s.img_path for s in samples or () if hasattr(s, 'img_path')]
