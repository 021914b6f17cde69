"""SGD over 800 epochs: linear warm-up for 4 of them, cosine over all.

Source: docs/method.md, section 9; for a total batch of 512.
"""

optim_wrapper = dict(
    type='AmpOptimWrapper',
    # As the release; eight times finer than bfloat16, and older GPUs have it.
    # Its scaler costs no host sync with a fused optimiser.
    dtype='float16',
    loss_scale='dynamic',
    # One group: everything trained is decayed, norms and biases too.
    optimizer=dict(
        type='SGD', lr=0.4, momentum=0.9, weight_decay=1e-4, fused=True
    ),
)
param_scheduler = [
    dict(
        type='WarmupLR',
        start_factor=1e-4,
        by_epoch=True,
        begin=0,
        end=4,
        convert_to_iter_based=True,
    ),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=800, T_max=800),
]
train_cfg = dict(by_epoch=True, max_epochs=800)
auto_scale_lr = dict(enable=False, base_batch_size=512)
