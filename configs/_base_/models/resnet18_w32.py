"""Backbone of all small recipes: ResNet-18 of half width at stride 16.

Source: this project. Pre-training, evaluation and transfer share it.
"""

# Padding of every convolution: 'zeros' or 'reflect'. With zeros, features of
# small images reveal their place in the grid (docs/method.md, section 12).
padding_mode = 'reflect'
small_backbone = dict(
    depth=18,
    stem_channels=32,
    base_channels=32,
    strides=(1, 2, 2, 1),
    dilations=(1, 1, 1, 2),
    conv_cfg=dict(type='Conv2d', padding_mode=padding_mode),
    norm_cfg=dict(type='BN'),
)
