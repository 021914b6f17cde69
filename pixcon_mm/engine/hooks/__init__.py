"""All hooks, one per file."""

from pixcon_mm.engine.hooks.checkpoint_hook import WholeCheckpointHook
from pixcon_mm.engine.hooks.dense_probe_hook import DenseProbeHook
from pixcon_mm.engine.hooks.key_encoder_hook import KeyEncoderUpdateHook
from pixcon_mm.engine.hooks.match_picture_hook import MatchPictureHook
from pixcon_mm.engine.hooks.missed_validation_hook import (
    MissedValidationHook,
)
from pixcon_mm.engine.hooks.monitor_hook import MonitorHook
from pixcon_mm.engine.hooks.precise_bn_hook import PreciseBatchNormHook
from pixcon_mm.engine.hooks.pretrained_hook import PretrainedHook
from pixcon_mm.engine.hooks.reproducible_resume_hook import (
    ReproducibleResumeHook,
)
from pixcon_mm.engine.hooks.run_summary_hook import RunSummaryHook
from pixcon_mm.engine.hooks.runtime_info_hook import DeferredRuntimeInfoHook
from pixcon_mm.engine.hooks.scene_dataset_hook import SceneDatasetHook
from pixcon_mm.engine.hooks.stop_signal_hook import StopSignalHook

__all__ = [
    'DeferredRuntimeInfoHook',
    'DenseProbeHook',
    'KeyEncoderUpdateHook',
    'MatchPictureHook',
    'MissedValidationHook',
    'MonitorHook',
    'PreciseBatchNormHook',
    'PretrainedHook',
    'ReproducibleResumeHook',
    'RunSummaryHook',
    'SceneDatasetHook',
    'StopSignalHook',
    'WholeCheckpointHook',
]
