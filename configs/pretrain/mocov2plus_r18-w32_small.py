# MoCo-v2+ for small data: PixCon's image branch alone.
# Source: pixcon_r18-w32_small.py, which has all other settings.
# 1 process x 128 = 128 images. Expected result: docs/study/.
_base_ = './pixcon_r18-w32_small.py'
model = dict(loss_lambda=0)
