"""Losses are read from the device when a line is logged, not at each step."""

import math
from typing import Any, NamedTuple

import torch
from mmengine.hooks import RuntimeInfoHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from pixcon_mm.engine.logging_iteration import is_logging_iteration
from pixcon_mm.engine.optimizer_checks import gradient_norm
from pixcon_mm.errors import UserError

# A loss scaler that halves its scale this often is not going to find one.
MAX_SKIPPED = 50
MAX_FILES = 8  # named in an error
# Values kept of each scalar. MMEngine copies all of them at each iteration,
# and keeps a million.
HISTORY = 10_000


class Step(NamedTuple):
    """What a step gave, still on its device.

    Attributes:
        iteration (int): Counted from 1.
        values (dict[str, Tensor]): Losses and gradient norm, scalars.
        files (list[str]): Image files of the batch, as far as known.
    """

    iteration: int
    values: dict[str, Tensor]
    files: list[str]


@HOOKS.register_module()
class DeferredRuntimeInfoHook(RuntimeInfoHook):
    """MMEngine's RuntimeInfoHook without a host sync at each iteration.

    MMEngine reads each loss with ``.item()`` and so waits for the device,
    once for each loss of each step. Here losses and the norm of the gradient
    stay on the device until a line is logged or a checkpoint is written, and
    then come over in one copy. The message hub gets the same values in the
    same order.

    This is also where a run ends whose losses or gradients are not finite.
    Under a loss scaler single ones are normal: the scaler skips their step.

    Raises:
        UserError: Names the value, the iteration and the images.
    """

    def __init__(self):
        self._waiting: list[Step] = []
        self._norm: Tensor | None = None
        self._skipped = self._skipped_in_a_row = self._reported = 0

    def before_train(self, runner: Runner) -> None:
        """Measure gradients right before each step of the optimiser."""
        super().before_train(runner)
        wrapper = runner.optim_wrapper
        # With clipping, MMEngine logs the norm from before it.
        if not getattr(wrapper, 'clip_grad_kwargs', None):
            wrapper.optimizer.register_step_pre_hook(self._measure)

    def _measure(self, optimizer, args: tuple, kwargs: dict) -> None:
        self._norm = gradient_norm(optimizer)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        """Keep what the step gave; read all of it at a logging iteration."""
        values = dict(outputs or {})
        if self._norm is not None:
            values['grad_norm'], self._norm = self._norm, None
        self._waiting.append(
            Step(runner.iter + 1, values, image_files(data_batch))
        )
        if is_logging_iteration(runner, batch_idx):
            self.read(runner)

    def read(self, runner: Runner) -> None:
        """Read what waits, judge it, pass it to the message hub."""
        steps, self._waiting = self._waiting, []
        values = iter(
            read_scalars([v for s in steps for v in s.values.values()])
        )
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        is_scaled = scaler is not None and scaler.is_enabled()
        for step in steps:
            numbers = {name: next(values) for name in step.values}
            bad = [n for n, v in numbers.items() if is_failure(n, v)]
            self._skipped_in_a_row = self._skipped_in_a_row + 1 if bad else 0
            if bad and (not is_scaled or self._skipped_in_a_row > MAX_SKIPPED):
                # The sum says less than the part that made it so.
                worst = next((n for n in bad if n != 'loss'), bad[0])
                raise UserError(describe_failure(step, worst, numbers))
            self._skipped += bool(bad)
            for name, value in numbers.items():
                if name not in bad:
                    runner.message_hub.update_scalar(f'train/{name}', value)
        for history in runner.message_hub.log_scalars.values():
            history.max_length = HISTORY
        if is_scaled and self._skipped > self._reported:
            self._reported = self._skipped
            runner.logger.info(
                f'{self._skipped} steps so far had values beyond half '
                'precision and were skipped by the loss scaler, which is '
                'normal now and then.'
            )


def read_scalars(tensors: list[Tensor]) -> list[float]:
    """Copy scalars to the host, all at once."""
    if not tensors:
        return []
    tensors = [torch.as_tensor(t).detach().reshape(()) for t in tensors]
    device = max((t.device for t in tensors), key=lambda d: d.type != 'cpu')
    return torch.stack([t.to(device, torch.float64) for t in tensors]).tolist()


def is_failure(name: str, value: float) -> bool:
    """Check for a value that must be finite and is not.

    Example:
        >>> is_failure('loss_dense', float('nan')), is_failure('acc', 1.0)
        (True, False)
    """
    is_judged = 'loss' in name or name == 'grad_norm'
    return is_judged and not math.isfinite(value)


def describe_failure(step: Step, name: str, numbers: dict) -> str:
    """Say which value is not finite, where, and what to try."""
    finite = [f'{n} {v:.4g}' for n, v in numbers.items() if math.isfinite(v)]
    files = ', '.join(step.files[:MAX_FILES])
    more = len(step.files) - MAX_FILES
    others = f' ({", ".join(finite)})' if finite else ''
    return (
        f'{name} is {numbers[name]} at iteration {step.iteration}{others}: '
        'the training has diverged, and no checkpoint is written from here '
        'on. Resume from the last one, or start over, with a lower learning '
        'rate or a longer warm-up'
        + (f'; images of the batch: {files}' if files else '')
        + (f' and {more} more' if more > 0 else '')
        + '.'
    )


def image_files(data_batch: Any) -> list[str]:
    """List the image files of a collated batch, as far as it knows them."""
    if not isinstance(data_batch, dict):
        return []
    samples = data_batch.get('data_samples')
    if isinstance(samples, dict):  # of PackTwoViewInputs
        return list(samples.get('img_path', ()))
    return [
        sample.img_path
        for sample in samples or ()
        if hasattr(sample, 'img_path')
    ]
