"""Runner, log line and hooks of all three tasks.

They register in MMEngine's root registries, so that a config of any framework
finds them by name.
"""

from pixcon_mm.engine import hooks as hooks
from pixcon_mm.engine.log_line import ReadableLogProcessor
from pixcon_mm.engine.runner import PixConRunner
from pixcon_mm.engine.schedules import WarmupLR
from pixcon_mm.engine.seeded_loading import ResumableEpochLoop

__all__ = [
    'PixConRunner',
    'ReadableLogProcessor',
    'ResumableEpochLoop',
    'WarmupLR',
]
