"""A PixCon small enough for seconds, and batches for it."""

import torch
from mmengine.registry import DATASETS
from mmpretrain.registry import MODELS
from torch import Tensor
from torch.utils.data import Dataset

import pixcon_mm.datasets  # noqa: F401
import pixcon_mm.models  # noqa: F401

NORM = dict(type='BN')
RESNET = dict(
    type='ResNet',
    depth=18,
    stem_channels=8,
    base_channels=8,
    norm_cfg=NORM,
    zero_init_residual=False,
)


def model_config(
    backbone: dict = RESNET,
    in_channels: int = 64,
    head: dict | None = None,
    neck_norm: dict = NORM,
    **kwargs,
) -> dict:
    """PixCon-SR with a narrow ResNet-18 and a queue of 96."""
    return dict(
        type='mmpretrain.PixCon',
        backbone=dict(backbone, _scope_='mmpretrain'),
        neck=dict(
            type='PixConNeck',
            in_channels=in_channels,
            hid_channels=24,
            out_channels=16,
            norm_cfg=neck_norm,
            _scope_='mmpretrain',
        ),
        head=dict(
            dict(
                type='PixConHead',
                channels=16,
                hid_channels=24,
                norm_cfg=NORM,
                matching='similarity',
                reweight=dict(power=2, use_mask=True),
                loss=dict(type='QueueInfoNCELoss', temperature=0.2),
                _scope_='mmpretrain',
            ),
            **(head or {}),
        ),
        data_preprocessor=dict(
            type='mmpretrain.TwoViewDataPreprocessor',
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            bgr_to_rgb=True,
        ),
        **dict(dict(queue_len=96), **kwargs),
    )


def build(**kwargs) -> torch.nn.Module:
    """Build and initialise the model of :func:`model_config`."""
    model = MODELS.build(model_config(**kwargs))
    model.init_weights()
    return model.train()


def sgd(model: torch.nn.Module, **options) -> torch.optim.SGD:
    trained = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.SGD(trained, **options)


def disturb(module: torch.nn.Module, scale: float = 0.05) -> torch.nn.Module:
    """Add noise to all weights and statistics, so that a copy differs."""
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor += scale * torch.randn_like(tensor)
    return module


def under(prefix: str, tensors: dict, **others) -> dict:
    """Put a prefix before the names of tensors."""
    return {prefix + name: t for name, t in tensors.items()} | others


def random_boxes(size: int, generator: torch.Generator) -> Tensor:
    """Crops (B, 2, 4) of a 640x480 image that mostly overlap."""
    corner = torch.rand(size, 2, 2, generator=generator)
    corner = (corner * torch.tensor([200.0, 150.0])).floor()
    extent = torch.rand(size, 2, 2, generator=generator)
    extent = (100 + extent * torch.tensor([300.0, 200.0])).floor()
    return torch.cat([corner, corner + extent], dim=-1)


def batch(size: int = 4, pixels: int = 96, seed: int = 0) -> dict:
    """A collated batch as the loader gives it."""
    generator = torch.Generator().manual_seed(seed)
    shape, uint8 = (size, 3, pixels, pixels), torch.uint8
    views = [
        torch.randint(0, 256, shape, generator=generator, dtype=uint8)
        for _ in range(2)
    ]
    return dict(
        inputs=views,
        data_samples=dict(
            crop_boxes=random_boxes(size, generator),
            flips=torch.rand(size, 2, generator=generator) < 0.5,
        ),
    )


@DATASETS.register_module()
class FixedViews(Dataset):
    """View pairs that are a function of the index, as a loader packs them."""

    def __init__(self, size: int):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index: int) -> dict:
        """Make a sample of 64 pixels."""
        pair = batch(size=1, pixels=64, seed=index)
        samples = {k: v[0] for k, v in pair['data_samples'].items()}
        return dict(
            inputs=[view[0] for view in pair['inputs']], data_samples=samples
        )


def losses(model, data: dict | None = None) -> dict[str, Tensor]:
    """The losses of a batch, or of the first one."""
    return model.loss(**model.data_preprocessor(data or batch(), True))
