"""The line that a person reads while training."""

import datetime
import logging

from mmengine.hooks import LoggerHook
from mmengine.registry import LOG_PROCESSORS
from mmengine.runner import LogProcessor, Runner
from torch.utils.data import DataLoader

# Messages of MMEngine about its own names, and about what holds by design.
NOISE = (
    'Exp name',
    'paramwise_options',
    'Gradient accumulative may slightly',
    'The prefix is not set in metric class',
)


@LOG_PROCESSORS.register_module()
class ReadableLogProcessor(LogProcessor):
    """Log line of position, losses, speed and time left, then the monitors.

    Adds ``images_per_second``, over all processes, to what is logged.
    Takes LogProcessor's arguments.
    """

    def get_log_after_iter(
        self, runner: Runner, batch_idx: int, mode: str
    ) -> tuple[dict, str]:
        """See :class:`mmengine.runner.LogProcessor`."""
        tag, line = super().get_log_after_iter(runner, batch_idx, mode)
        if mode != 'train' or 'time' not in tag:
            return tag, line
        images = batch_size(runner.train_dataloader) * runner.world_size
        tag['images_per_second'] = images / tag['time']
        parts = (
            self._position(runner, batch_idx),
            losses(tag),
            f'lr {tag["lr"]:.3g}',
            f'grad {tag["grad_norm"]:.3g}' if 'grad_norm' in tag else '',
            f'{tag["images_per_second"]:.3g} images/s '
            f'(data {tag["data_time"] / tag["time"]:.0%})',
            time_left(runner.message_hub.get_info('eta')),
            f'{tag["memory"] / 1024:.1f} GiB' if 'memory' in tag else '',
            monitors(tag),
        )
        return tag, '  '.join(filter(None, parts))

    def _position(self, runner: Runner, batch_idx: int) -> str:
        if not self.by_epoch:
            return f'iteration {runner.iter + 1}/{runner.max_iters}'
        length = len(runner.train_dataloader)
        here = str(batch_idx + 1).rjust(len(str(length)))
        epoch = str(runner.epoch + 1).rjust(len(str(runner.max_epochs)))
        return f'epoch {epoch}/{runner.max_epochs} [{here}/{length}]'


def batch_size(loader: DataLoader) -> int:
    """Return the number of images that a process loads at a time."""
    # A loader with a batch sampler, as MMDetection's, has no size itself.
    return loader.batch_size or loader.batch_sampler.batch_size


def is_logging_iteration(runner: Runner, batch_idx: int) -> bool:
    """Check if LoggerHook may write a line after this iteration.

    Others can wait: what they read from the device costs a host sync.
    """
    hook = next((h for h in runner.hooks if isinstance(h, LoggerHook)), None)
    return (
        hook is None
        or hook.every_n_inner_iters(batch_idx, hook.interval)
        or hook.end_of_epoch(runner.train_dataloader, batch_idx)
        or hook.is_last_train_iter(runner)
    )


def losses(tag: dict) -> str:
    """Write the total loss, then its parts.

    Example:
        >>> losses(dict(loss=3.0, loss_image=1.0, loss_dense=2.0, lr=0.1))
        'loss 3.000 (image 1.000, dense 2.000)'
    """
    # MMSegmentation names the head first: decode.loss_ce.
    parts = ', '.join(
        f'{name.replace("loss_", "")} {value:.3f}'
        for name, value in tag.items()
        if 'loss_' in name
    )
    return f'loss {tag["loss"]:.3f}' + (f' ({parts})' if parts else '')


def monitors(tag: dict) -> str:
    """Write the monitors, without their prefix.

    Example:
        >>> monitors(dict(mon_overlap=0.5914, mon_weight=0.75, loss=1.0))
        'overlap 0.591  weight 0.750'
    """
    return '  '.join(
        f'{name.removeprefix("mon_")} {value:.3f}'
        for name, value in tag.items()
        if name.startswith('mon_') and name != 'mon_momentum'
    )


def time_left(seconds: float | None) -> str:
    """Write how long the run will still take.

    Example:
        >>> time_left(93784.2)
        'left 1 day, 2:03:04'
    """
    if seconds is None:
        return ''
    return f'left {datetime.timedelta(seconds=int(seconds))}'


def is_readable(record: logging.LogRecord) -> bool:
    """Check for a message to a person at a terminal, not to the file.

    The file alone gets dumps of many lines, except tables of results, and
    what MMEngine says of its own names.
    """
    message = record.getMessage()
    if record.levelno >= logging.ERROR:
        return True
    if 'deprecated' in message or message.startswith(NOISE):
        return False
    is_table = message.strip().startswith('+-')
    is_line = '\n' not in message.strip()
    return record.levelno >= logging.WARNING or is_line or is_table
