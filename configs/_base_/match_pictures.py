"""Crops, matches and weights of four images as pictures, every ten epochs.

Inherited beside a recipe of pre-training (docs/evaluation.md, section 7).
"""

custom_hooks = [dict(type='MatchPictureHook', interval=10)]
