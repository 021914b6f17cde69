# PixCon-Coord for small data: the key cell nearest in the image.
# Source: pixcon_r18-w32_small.py, which has all other settings.
# 1 process x 128 = 128 images. Expected result: docs/study/.
_base_ = './pixcon_r18-w32_small.py'
model = dict(head=dict(matching='coordinate', reweight=None))
