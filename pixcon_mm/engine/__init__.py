"""Runner and hooks used by all three tasks, in mmengine's root registries."""

from pixcon_mm.engine.checkpoint_hook import WholeCheckpointHook
from pixcon_mm.engine.deferred_info_hook import DeferredRuntimeInfoHook
from pixcon_mm.engine.key_encoder_hook import KeyEncoderUpdateHook
from pixcon_mm.engine.log_line import ReadableLogProcessor
from pixcon_mm.engine.loops import ResumableEpochLoop
from pixcon_mm.engine.monitor_hook import MonitorHook
from pixcon_mm.engine.precise_bn_hook import PreciseBatchNormHook
from pixcon_mm.engine.pretrained_hook import PretrainedHook
from pixcon_mm.engine.progress_bar_hook import ProgressBarHook
from pixcon_mm.engine.reproducible_resume_hook import ReproducibleResumeHook
from pixcon_mm.engine.run_summary_hook import RunSummaryHook
from pixcon_mm.engine.runner import PixConRunner
from pixcon_mm.engine.scene_dataset_hook import SceneDatasetHook
from pixcon_mm.engine.stop_signals import StopSignalHook
from pixcon_mm.engine.warmup import WarmupLR

__all__ = [
    'DeferredRuntimeInfoHook',
    'KeyEncoderUpdateHook',
    'MonitorHook',
    'PixConRunner',
    'PreciseBatchNormHook',
    'PretrainedHook',
    'ProgressBarHook',
    'ReadableLogProcessor',
    'ReproducibleResumeHook',
    'ResumableEpochLoop',
    'RunSummaryHook',
    'SceneDatasetHook',
    'StopSignalHook',
    'WarmupLR',
    'WholeCheckpointHook',
]
