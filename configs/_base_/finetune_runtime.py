"""Imports, hooks, log and device of every fine-tuning run."""

custom_imports = dict(imports=['pixcon_mm'], allow_failed_imports=False)
# Read by OpenMMLab's own train.py scripts.
runner_type = 'PixConRunner'
default_hooks = dict(
    runtime_info=dict(type='DeferredRuntimeInfoHook'),
    timer=dict(type='IterTimerHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    reproducible_resume=dict(type='ReproducibleResumeHook'),
    # --pretrained of tools/train.py sets its source.
    pretrained=dict(type='PretrainedHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    checkpoint=dict(
        type='WholeCheckpointHook',
        by_epoch=False,
        interval=5000,
        max_keep_ckpts=2,
    ),
)
log_processor = dict(type='ReadableLogProcessor', by_epoch=False)
# The task's runtime sets its type; OpenMMLab's tools need the name.
visualizer = dict(
    name='visualizer',
    vis_backends=[
        dict(type='LocalVisBackend'),
        dict(type='TensorboardVisBackend'),
    ],
)
env_cfg = dict(
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
randomness = dict(seed=0)
load_from = None
resume = False
