# PixCon-SR on one GPU, COCO train2017, 800 epochs.
# Source: this project. 1 GPU x 128 x 4 batches per step = 512 images, so that
# learning rate, schedule and steps per epoch are the main recipe's. So is the
# queue, which takes 512 keys a step. Only the statistics of the batch norms
# differ: they are over 128 images instead of 512. On an H100, a batch takes 84
# ms and needs 11.5 GB (docs/speed.md), so it should fit a card of 24 GB.
# Expected result: not measured here yet.
_base_ = './pixcon_r50_coco.py'
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(accumulative_counts=4)
