"""What every detector's fine-tuning shares: scope, precise BN, optimiser.

Source: reference file, section 4.2 (detectron2's defaults).
"""

_base_ = './finetune_runtime.py'
default_scope = 'mmdet'
custom_hooks = [dict(type='PreciseBatchNormHook', num_batches=200)]
visualizer = dict(
    type='DetLocalVisualizer',
    vis_backends=[
        dict(type='LocalVisBackend'),
        dict(type='TensorboardVisBackend'),
    ],
)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
