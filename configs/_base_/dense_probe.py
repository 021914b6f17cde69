"""Correspondence of crops of the training images, every ten epochs.

Inherited beside a recipe of pre-training (docs/evaluation.md, section 6).
"""

custom_hooks = [dict(type='DenseProbeHook', interval=10)]
