"""Progress bar at the foot of an interactive terminal."""

import atexit
import logging
import sys

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """Show the position in the epoch; log lines scroll above the bar.

    Does nothing where output goes to a file or a pipe.
    """

    def __init__(self):
        self._bar = None

    def before_train(self, runner) -> None:
        """Start the bar if a person is watching."""
        if not (is_main_process() and sys.stdout.isatty()):
            return
        self._bar = Progress(
            TextColumn('{task.description}'),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            transient=True,
        )
        # However the run ends, the terminal gets its cursor back.
        atexit.register(self._bar.stop)
        self._bar.start()
        self._redirect_log(runner)
        self._task = self._bar.add_task('', total=runner.max_iters)

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        """Move the bar."""
        if self._bar:
            self._bar.update(
                self._task,
                completed=runner.iter + 1,
                description=f'epoch {runner.epoch + 1}/{runner.max_epochs}'
                if runner.max_epochs
                else 'training',
            )

    def after_train(self, runner) -> None:
        """Give the terminal back."""
        if self._bar:
            self._bar.stop()
            self._redirect_log(runner)
            self._bar = None

    @staticmethod
    def _redirect_log(runner) -> None:
        """Log to sys.stdout as it is now: rich prints above its bar."""
        for handler in runner.logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.setStream(sys.stdout)
