"""SGD over 800 epochs: linear warm-up for 4 of them, cosine over all.

Source: docs/method.md, section 9; for a total batch of 512.
"""

optim_wrapper = dict(
    type='AmpOptimWrapper',
    # As in the release: eight times finer than bfloat16, also on older GPUs.
    # With a fused optimiser, the loss scaler needs no host sync.
    dtype='float16',
    loss_scale='dynamic',
    # One group: all parameters are decayed, including norms and biases.
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
