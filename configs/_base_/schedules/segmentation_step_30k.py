"""SGD over 30k iterations of 16 images, two steps.

Source: the release (docs/method.md, section 10.2).
"""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.003, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = [
    dict(
        type='MultiStepLR',
        by_epoch=False,
        milestones=[21000, 27000],
        gamma=0.1,
    )
]
train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=30000, val_interval=30000
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
