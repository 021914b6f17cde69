# PixCon-SR on the demo's scenes, in a few minutes on one CPU core.
# Source: this project (`make demo`); pixcon_r18-w32_small.py, shortened.
# 1 process x 64 = 64 images. Expected result: printed by the demo.
_base_ = './pixcon_r18-w32_small.py'
data_root = 'data/demo/train2017/'
epochs = 8
# Shorter than the data set, so that no image is its own negative.
model = dict(queue_len=512)
train_dataloader = dict(batch_size=64, dataset=dict(data_root=data_root))
optim_wrapper = dict(optimizer=dict(lr=0.05))
param_scheduler = [
    dict(_base_.param_scheduler[0], end=1),
    dict(_base_.param_scheduler[1], end=epochs, T_max=epochs),
]
train_cfg = dict(max_epochs=epochs)
auto_scale_lr = dict(base_batch_size=64)
default_hooks = dict(
    logger=dict(interval=8),
    checkpoint=dict(interval=4, max_keep_ckpts=1),
)
