"""SGD over 48 epochs of batches of 8 images, for data of any size.

Source: detection_1x.py, with its rate for half the batch and its steps at two
thirds and eleven twelfths; ``--epochs`` scales them.
"""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
param_scheduler = [
    dict(
        type='WarmupLR',
        start_factor=1e-3,
        by_epoch=True,
        begin=0,
        end=1,
        convert_to_iter_based=True,
    ),
    dict(type='MultiStepLR', by_epoch=True, milestones=[32, 44], gamma=0.1),
]
train_cfg = dict(by_epoch=True, max_epochs=48, val_interval=4)
auto_scale_lr = dict(enable=False, base_batch_size=8)
