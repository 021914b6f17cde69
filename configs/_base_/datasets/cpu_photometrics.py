"""BYOL's photometric augmentation in the loader, by MMPretrain's transforms.

For the baselines, and for the recipe that augments on the CPU.
"""

grayscale = dict(
    type='RandomGrayscale',
    prob=0.2,
    keep_channels=True,
    channel_weights=(0.114, 0.587, 0.2989),
)
color = [
    dict(
        type='RandomApply',
        prob=0.8,
        transforms=[
            dict(
                type='ColorJitter',
                brightness=0.4,
                contrast=0.4,
                saturation=0.2,
                hue=0.1,
                backend='pillow',
            )
        ],
    ),
    grayscale,
]
blur = dict(
    type='GaussianBlur', magnitude_range=(0.1, 2.0), magnitude_std='inf'
)
cpu_view1 = [*color, dict(blur, prob=1.0)]
cpu_view2 = [
    *color,
    dict(blur, prob=0.1),
    dict(type='Solarize', thr=128, prob=0.2),
]
