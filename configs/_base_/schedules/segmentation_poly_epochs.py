"""SGD over 48 epochs of batches of 8 images, polynomial decay.

Source: segmentation_poly_40k.py, for data of any size; ``--epochs`` scales it.
"""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4),
)
param_scheduler = [
    dict(
        type='PolyLR',
        power=0.9,
        eta_min=1e-4,
        by_epoch=True,
        begin=0,
        end=48,
        convert_to_iter_based=True,
    )
]
train_cfg = dict(by_epoch=True, max_epochs=48, val_interval=4)
auto_scale_lr = dict(enable=False, base_batch_size=8)
