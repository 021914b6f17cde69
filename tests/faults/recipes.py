"""Tiny runs of every kind: seconds each, the shipped configs otherwise."""

from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from tests import ROOT

IMAGES = 40
BASE = 16  # channels of the first stage
COMMON = {
    'model.backbone.stem_channels': BASE,
    'model.backbone.base_channels': BASE,
    'default_hooks.logger.interval': 1,
}


@dataclass(frozen=True)
class Recipe:
    """A run that the campaign disturbs."""

    name: str
    base: str  # config that it derives from
    changes: dict = field(hash=False)  # by keys with dots
    total: int  # iterations
    interval: int  # iterations between checkpoints
    length: int = 10  # iterations of an epoch, in runs that count epochs
    processes: int = 1
    pretrained: 'Recipe | None' = None  # where the backbone comes from

    @property
    def last(self) -> str:
        """Return the name of the final checkpoint."""
        if self.changes.get('default_hooks.checkpoint.by_epoch', True):
            return f'epoch_{self.total // self.length}.pth'
        return f'iter_{self.total}.pth'

    def write(self, folder: Path, data: Path) -> Path:
        """Write the config, with the images' folder; return its path."""
        cfg = Config.fromfile(ROOT / 'configs' / self.base)
        changes = {**COMMON, **self.changes}
        # Replaced as a whole, not merged.
        for key in ('train_cfg', 'param_scheduler', 'optim_wrapper'):
            if key in changes:
                cfg[key] = changes.pop(key)
        cfg.merge_from_dict(changes)
        path = folder / f'{self.name.replace(" ", "-").replace(",", "")}.py'
        path.write_text(cfg.dump().replace('data/demo/', f'{data}/'))
        return path


def saving(interval: int, keep: int, by_epoch: bool = False) -> dict:
    """Save checkpoints, at an interval of epochs or iterations."""
    return {
        'default_hooks.checkpoint.by_epoch': by_epoch,
        'default_hooks.checkpoint.interval': interval,
        'default_hooks.checkpoint.max_keep_ckpts': keep,
    }


def cosine(iterations: int) -> list[dict]:
    """Schedule the learning rate of a run that counts iterations."""
    ends = dict(begin=0, end=iterations, T_max=iterations)
    return [dict(type='CosineAnnealingLR', by_epoch=False, **ends)]


PIXCON = {
    # In float32, unlike the demo.
    'optim_wrapper': dict(
        type='OptimWrapper',
        optimizer=dict(
            type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4, fused=True
        ),
    ),
    'model.queue_len': 64,
    'model.neck.in_channels': 8 * BASE,
    'model.neck.hid_channels': 32,
    'model.head.hid_channels': 32,
    'train_dataloader.batch_size': 4,
    'train_dataloader.dataset.pipeline.1.scale': 64,
}
DEMO = 'pretrain/pixcon_r18_demo.py'


def pretraining(
    kind: str, changes: dict, total: int = 80, interval: int = 10, **options
) -> Recipe:
    """Describe a pre-training on the demo's images."""
    name, changes = f'pre-training {kind}', {**PIXCON, **changes}
    return Recipe(name, DEMO, changes, total, interval, **options)


EVERY_EPOCH = saving(1, keep=1, by_epoch=True)
EPOCHS = pretraining('by epoch', EVERY_EPOCH)
MID_EPOCH = pretraining(
    'by epoch, saved in mid-epoch',
    {**saving(7, keep=2), 'train_dataloader.num_workers': 2},
    interval=7,
)
ITERATIONS = pretraining(
    'by iteration',
    {
        **saving(9, keep=1),
        'train_dataloader.sampler.type': 'InfiniteSampler',
        'train_cfg': dict(type='IterBasedTrainLoop', max_iters=80),
        'param_scheduler': cosine(80),
        'log_processor.by_epoch': False,
        'default_hooks.logger.log_metric_by_epoch': False,
    },
    interval=9,
)
AVERAGED = pretraining(
    'with EMAHook',
    {
        **EVERY_EPOCH,
        'train_cfg': dict(by_epoch=True, max_epochs=4),
        'custom_hooks': [dict(type='EMAHook', momentum=0.1)],
    },
    total=40,
)
ACCUMULATION = pretraining(
    'with accumulation',
    {**saving(7, keep=2), 'optim_wrapper.accumulative_counts': 2},
    interval=7,
)
TWO = pretraining(
    'on two processes',
    saving(7, keep=2),
    *(40, 7),
    length=5,
    processes=2,
)
DETECTION = Recipe(
    'detection fine-tuning',
    'detection/mask-rcnn_r18-fpn_demo.py',
    {
        **saving(5, keep=1),
        'train_dataloader.dataset.pipeline.2.scales': [(107, 80), (128, 96)],
        'model.train_cfg.rpn_proposal.max_per_img': 50,
        'model.train_cfg.rcnn.sampler.num': 16,
        'model.neck.in_channels': [BASE, 2 * BASE, 4 * BASE, 8 * BASE],
        'train_dataloader.batch_size': 2,
        'train_cfg': dict(
            type='IterBasedTrainLoop', max_iters=40, val_interval=1000
        ),
        'custom_hooks': [dict(type='PreciseBatchNormHook', num_batches=2)],
    },
    40,
    5,
    pretrained=EPOCHS,
)
SEGMENTATION = Recipe(
    'segmentation fine-tuning',
    'segmentation/fcn_r18_demo.py',
    {
        **saving(7, keep=2),
        'model.decode_head.in_channels': 8 * BASE,
        'train_dataloader.batch_size': 4,
        'train_dataloader.num_workers': 2,
        'train_cfg': dict(
            type='IterBasedTrainLoop', max_iters=60, val_interval=1000
        ),
    },
    60,
    7,
    pretrained=EPOCHS,
)
