"""SGD over 75 epochs of small data: 5 of warm-up, cosine over all.

The rate is that of sgd_cosine_800e.py for a total batch of 128.
"""

epochs, warmup = 75, 5
optim_wrapper = dict(
    type='AmpOptimWrapper',
    # Takes half the time of float32 on CPUs with bfloat16; others use float32.
    dtype='bfloat16',
    optimizer=dict(
        type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4, fused=True
    ),
)
param_scheduler = [
    dict(
        type='WarmupLR',
        start_factor=1e-4,
        by_epoch=True,
        begin=0,
        end=warmup,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=epochs,
        T_max=epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(by_epoch=True, max_epochs=epochs)
auto_scale_lr = dict(enable=False, base_batch_size=128)
