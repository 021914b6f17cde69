"""AdamW over 300 epochs: linear warm-up, cosine over all.

For backbones with layer norms; their recipes set rate, decay and warm-up.
Untested: the paper trains ResNets with SGD only.
"""

optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='float16',
    loss_scale='dynamic',
    # One group: norms and biases are decayed, too, as in MoCo v3.
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.05, fused=True),
)
param_scheduler = [
    dict(
        type='WarmupLR',
        start_factor=1e-4,
        by_epoch=True,
        begin=0,
        end=20,
        convert_to_iter_based=True,
    ),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=300, T_max=300),
]
train_cfg = dict(by_epoch=True, max_epochs=300)
auto_scale_lr = dict(enable=False, base_batch_size=512)
