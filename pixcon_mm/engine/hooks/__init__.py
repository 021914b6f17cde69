"""All hooks, one per file; this import registers them."""

from pixcon_mm.engine.hooks import (  # noqa: F401
    checkpoint_hook,
    dense_probe_hook,
    key_encoder_hook,
    match_picture_hook,
    missed_validation_hook,
    monitor_hook,
    precise_bn_hook,
    pretrained_hook,
    reproducible_resume_hook,
    run_summary_hook,
    runtime_info_hook,
    scene_dataset_hook,
    stop_signal_hook,
)
