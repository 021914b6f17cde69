"""The line that a person reads while training."""

import logging
import re
import shutil

from mmengine.hooks import LoggerHook
from mmengine.registry import LOG_PROCESSORS
from mmengine.runner import LogProcessor, Runner
from torch.utils.data import DataLoader

# Beginnings of messages that are not shown in the terminal: OpenMMLab's dumps,
# and its messages about its own names and about settings that are intended.
NOISE = (
    '------',  # a list of the system's properties
    'Config:',
    'Hooks will be executed',
    'Name of parameter',
    # COCO's metrics, which a table shows as well.
    'Loading and preparing results',
    *(f'{kind}_mAP_copypaste: ' for kind in ('bbox', 'segm')),
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    'Exp name',
    'paramwise_options',
    'Gradient accumulative may slightly',
    'The prefix is not set in metric class',
    # Our own lines contain what matters of these.
    'Checkpoints will be saved to',
    'LR is set based on batch size',
    'Distributed training is not used',
)


@LOG_PROCESSORS.register_module()
class ReadableLogProcessor(LogProcessor):
    """Log line with position, loss, time left and speed, then all the rest.

    The parts are in order of importance, because a terminal shows as many as
    fit into its width (:class:`TerminalFormatter`). Adds
    ``images_per_second``, over all processes, to what is logged. Takes
    LogProcessor's arguments.
    """

    def get_log_after_iter(
        self, runner: Runner, batch_idx: int, mode: str
    ) -> tuple[dict, str]:
        """Return the values to log by name, and the line to print.

        See :class:`mmengine.runner.LogProcessor`.
        """
        # MMEngine takes the values from the message hub, without 'train/':
        # losses, grad_norm and times as means of the last iterations, all
        # others as they are.
        tag, line = super().get_log_after_iter(runner, batch_idx, mode)
        if mode != 'train' or 'time' not in tag:
            return tag, line
        images = batch_size(runner.train_dataloader) * runner.world_size
        tag['images_per_second'] = images / tag['time']
        parts = (
            self._position(runner, batch_idx),
            f'loss {tag["loss"]:.3f}',
            time_left(runner.message_hub.get_info('eta')),
            f'{three_digits(tag["images_per_second"])} img/s',
            f'data {tag["data_time"] / tag["time"]:.0%}',
            f'lr {tag["lr"]:.3g}',
            f'grad {tag["grad_norm"]:.3g}' if 'grad_norm' in tag else '',
            losses(tag),
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

    Other hooks read values from the device only then, as that costs a host
    sync. The last iteration counts too: even if no line shows its values, they
    are checked.
    """
    hook = next((h for h in runner.hooks if isinstance(h, LoggerHook)), None)
    return (
        hook is None
        or hook.every_n_inner_iters(batch_idx, hook.interval)
        or hook.end_of_epoch(runner.train_dataloader, batch_idx)
        or hook.is_last_train_iter(runner)
    )


def losses(tag: dict) -> str:
    """Write the parts of the loss.

    Example:
        >>> losses(dict(loss=3.0, loss_image=1.0, loss_dense=2.0, lr=0.1))
        'image 1.000  dense 2.000'
    """
    # MMSegmentation names the head first: decode.loss_ce.
    return '  '.join(
        f'{name.replace("loss_", "")} {value:.3f}'
        for name, value in tag.items()
        if 'loss_' in name
    )


def monitors(tag: dict) -> str:
    """Write the monitors, without the prefix that MonitorHook gives them.

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
        >>> time_left(3784.2), time_left(93784.2)
        ('left 1:03:04', 'left 1d 02:03')
    """
    if seconds is None:
        return ''
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f'left {days}d {hour:02}:{minute:02}'
    return f'left {hour}:{minute:02}:{second:02}'


def three_digits(value: float) -> str:
    """Write a number with at least three digits, without an exponent.

    Example:
        >>> three_digits(1234.5), three_digits(12.345)
        ('1234', '12.3')
    """
    return f'{value:.0f}' if value >= 100 else f'{value:.3g}'


class TerminalFormatter(logging.Formatter):
    """Formatter that shortens a line of the training to the terminal's width.

    Parts at the end of the line, which two spaces separate, are left out
    until it fits. The log file gets the whole line, and so does a file or a
    pipe in place of a terminal.
    """

    def __init__(self):
        super().__init__('%(asctime)s %(message)s', '%m/%d %H:%M:%S')

    def format(self, record: logging.LogRecord) -> str:
        """Write time and message, and the level of a warning or error."""
        text = super().format(record)
        if record.levelno >= logging.WARNING:
            time, message = text[:14], text[15:]
            if record.levelno < logging.ERROR and '\n' in message.strip():
                first = message.strip().partition('\n')[0]
                message = f'{first} (more lines in the log file)'
            return f'{time} {record.levelname} {message}'
        if not re.match(r'(epoch|iteration) +\d', record.getMessage()):
            return text
        # Where there is no terminal, nothing wraps.
        columns = shutil.get_terminal_size((len(text), 0)).columns
        return fit(text, columns)


def fit(line: str, columns: int) -> str:
    """Leave out parts at the end of a line until it fits.

    Example:
        >>> fit('epoch  1/10 [  4/100]  loss 3.000  84 img/s  lr 0.1', 44)
        'epoch  1/10 [  4/100]  loss 3.000  84 img/s'
    """
    # Spaces after 'epoch' and '[' align numbers and separate no parts.
    gaps = re.finditer(r'(?<!epoch)(?<!\[)(?<! )  (?=\S)', line)
    ends = [*(gap.start() for gap in gaps), len(line)]
    return line[: max((end for end in ends if end <= columns), default=None)]


def is_readable(record: logging.LogRecord) -> bool:
    """Check if a message is for the terminal, and not for the log file alone.

    Errors always are.
    """
    is_noise = record.getMessage().lstrip('\n').startswith(NOISE)
    return record.levelno >= logging.ERROR or not is_noise
