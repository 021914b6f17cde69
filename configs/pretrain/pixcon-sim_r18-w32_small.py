# PixCon-Sim for small data: the most similar key cell, all weights are 1.
# Source: pixcon_r18-w32_small.py, which has all other settings.
# 1 process x 128 = 128 images. Expected result: docs/study/.
_base_ = './pixcon_r18-w32_small.py'
model = dict(head=dict(matching='similarity', reweight=None))
