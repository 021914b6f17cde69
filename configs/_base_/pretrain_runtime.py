"""Imports, hooks, log and device of every pre-training run."""

default_scope = 'mmpretrain'
custom_imports = dict(
    imports=['pixcon_mm', 'pixcon_mm.models', 'pixcon_mm.datasets'],
    allow_failed_imports=False,
)
# Read by OpenMMLab's own train.py scripts.
runner_type = 'PixConRunner'
default_hooks = dict(
    runtime_info=dict(type='DeferredRuntimeInfoHook'),
    timer=dict(type='IterTimerHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    scene_dataset=dict(type='SceneDatasetHook'),
    key_encoder=dict(type='KeyEncoderUpdateHook'),
    reproducible_resume=dict(type='ReproducibleResumeHook'),
    monitors=dict(type='MonitorHook'),
    logger=dict(type='LoggerHook', interval=50),
    # Saved often enough for jobs with a time limit.
    checkpoint=dict(type='WholeCheckpointHook', interval=10, max_keep_ckpts=3),
)
log_processor = dict(type='ReadableLogProcessor')
visualizer = dict(
    type='UniversalVisualizer',
    name='visualizer',  # for OpenMMLab's tools
    vis_backends=[
        dict(type='LocalVisBackend'),
        dict(type='TensorboardVisBackend'),
    ],
)
# Every parameter gets a gradient at every step, so DDP need not search for
# unused ones; gradients lie in the buffers that it exchanges, without a copy.
model_wrapper_cfg = dict(
    type='MMDistributedDataParallel',
    broadcast_buffers=False,
    find_unused_parameters=False,
    gradient_as_bucket_view=True,
    static_graph=True,
)
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
# The release seeds all ranks with 0 (docs/method.md, section 9).
randomness = dict(seed=0)
load_from = None
resume = False
# Pre-training has no test: this pipeline is for MMPretrain's FeatureExtractor
# and its tools.
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    dataset=dict(
        type='SceneImageDataset',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='ResizeEdge', scale=256, edge='short'),
            dict(type='CenterCrop', crop_size=224),
            dict(type='PackInputs'),
        ],
    ),
)
test_cfg = dict()
test_evaluator = dict()
