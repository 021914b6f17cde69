"""Runner and hooks used by all three tasks, in mmengine's root registries."""

from pixcon_mm.engine.key_encoder_hook import KeyEncoderUpdateHook
from pixcon_mm.engine.monitor_hook import MonitorHook

__all__ = ['KeyEncoderUpdateHook', 'MonitorHook']
