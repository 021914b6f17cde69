"""Frozen backbones of several libraries, with weights of any checkpoint."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config
from torch import Tensor, nn

from pixcon_mm.checkpoint.pretrained import (
    checkpoints_of,
    fill_backbone,
    load_pretrained,
)
from pixcon_mm.errors import UserError, suggest
from pixcon_mm.evaluation.dilation import dilate, stride_of
from pixcon_mm.wording import listed

# ImageNet's, in RGB, for values from 0 to 255.
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
# Errors about the size of an image: of reflection padding, which needs a
# minimum, and of position embeddings of one size.
SIZE_TROUBLE = re.compile(r'(Argument #\d+: )?Padding size|The size of tensor')


class FrozenBackbone(nn.Module):
    """Network from RGB images to one feature map, without gradients.

    Args:
        net (nn.Module): The network.
        read (Callable): From normalised images to the network's feature map.
        stride (int): Side of a cell in pixels.
        channels (int): Channels D of the feature map.
        mean, std (Sequence[float]): Mean and standard deviation of each
            channel, for values from 0 to 255.
        bgr (bool): The network takes BGR; ``mean`` and ``std`` are then in
            this order as well.
        origin (dict): Sources of the architecture and the weights.
    """

    def __init__(
        self,
        net: nn.Module,
        read: Callable[[Tensor], Tensor],
        stride: int,
        channels: int,
        mean: tuple[float, ...] = MEAN,
        std: tuple[float, ...] = STD,
        bgr: bool = False,
        origin: dict | None = None,
    ):
        super().__init__()
        self.net, self.read, self.bgr = net, read, bgr
        self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer('std', torch.tensor(std).view(-1, 1, 1))
        self.stride, self.channels = stride, channels
        self.origin = origin or {}

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Compute the feature maps of a batch.

        Args:
            images (Tensor): RGB, 0 to 255, any dtype; H and W are multiples
                of the stride. Shape (B, 3, H, W).

        Returns:
            Tensor: float32. Shape (B, D, H / stride, W / stride).

        Raises:
            UserError: If the network does not take images of this size.
        """
        images = images.float()
        if self.bgr:
            images = images.flip(1)
        try:
            return self.read((images - self.mean) / self.std).float()
        # Models of timm assert some sizes.
        except (AssertionError, RuntimeError) as error:
            if not (
                isinstance(error, AssertionError) or is_size_trouble(error)
            ):
                raise
            height, width = images.shape[2:]
            raise UserError(
                'The backbone does not take images of '
                f'{height} x {width} pixels ({error}): choose another size.'
            ) from error

    def describe(self) -> dict:
        """Return the entries about the features for a result file."""
        return dict(
            self.origin,
            stride=self.stride,
            channels=self.channels,
            mean=self.mean.flatten().tolist(),
            std=self.std.flatten().tolist(),
            channel_order='BGR' if self.bgr else 'RGB',
        )


def is_size_trouble(error: Exception) -> bool:
    """Check if a network has failed because of the size of an image."""
    return bool(SIZE_TROUBLE.match(str(error)))


def find_device(name: str | None) -> str:
    """Return a device's name: CUDA if there is one, otherwise the CPU.

    Args:
        name (str, optional): Another choice; it is checked.

    Raises:
        UserError: If this machine has no device of that name.
    """
    name = name or ('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        torch.empty(0, device=name)
    # A PyTorch built without CUDA raises AssertionError.
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f'--device {name} cannot be used here: {reason}'
        ) from error
    return name


def load_backbone(
    arch: str | Config,
    pretrained: str | Path,
    stride: int | None = None,
    prefix: str | None = None,
    seed: int = 0,
) -> FrozenBackbone:
    """Build a backbone and load weights for all of its tensors.

    Args:
        arch (str | Config): A config with ``model.backbone``, of this project
            or of MMPretrain, MMDetection, MMSegmentation, as a file or as
            :func:`~pixcon_mm.cli.read_config` returns it; a model of
            torchvision (``'resnet50'``); or a model of timm, such as
            ``'timm:vit_small_patch16_224'``.
        pretrained (str | Path): A file of weights (a checkpoint of this
            project or of the release, an exported backbone, a state dict),
            ``'torchvision'`` for its supervised ResNet, or ``'none'`` for
            random weights.
        stride (int, optional): Side of a cell in pixels, to which a CNN is
            dilated with unchanged weights. By default the network's own.
        prefix (str, optional): Prefix of the backbone's tensors, for files in
            an unknown format.
        seed (int): Seed of random weights.

    Returns:
        FrozenBackbone: In eval mode, on the CPU.

    Raises:
        UserError: If there is no such model or file, or a tensor would stay
            random.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(arch, Config) or arch.endswith('.py'):
            parts = _from_config(arch)
        elif arch.startswith('timm:'):
            parts = _from_timm(arch.removeprefix('timm:'))
        else:
            parts = _from_torchvision(arch)
    net, read = parts['net'], parts['read']
    net.eval()
    name = arch.filename if isinstance(arch, Config) else arch
    origin = dict(arch=name, pretrained=str(pretrained))
    if pretrained == 'none':
        origin['seed'] = seed
    else:
        weights = load_pretrained(pretrained, net)
        # timm's ConvNeXt has its last norm and its classifier in one layer:
        # head.norm, head.fc.
        layers = getattr(net, 'pretrained_cfg', {}).get('classifier') or ()
        layers = (layers,) if isinstance(layers, str) else tuple(layers)
        fill_backbone(net.state_dict(), weights, prefix, layers)
        origin['pretrained'] = weights.name
        if weights.sha256:
            origin['sha256'] = weights.sha256
    if stride is not None:
        dilate(net, read, stride)
    own_stride, channels = stride_of(read)
    backbone = FrozenBackbone(
        **parts, stride=own_stride, channels=channels, origin=origin
    )
    return backbone.eval().requires_grad_(False)


def _from_config(source: str | Config) -> dict:
    """Build the backbone of an OpenMMLab config."""
    from mmengine.registry import MODELS, DefaultScope

    from pixcon_mm.cli import quiet, read_config

    if isinstance(source, Config):
        cfg = source
    else:
        cfg = read_config(source, scope='mmpretrain')
    model = cfg.get('model') or {}
    if not model.get('backbone'):
        raise UserError(f'{cfg.filename} describes no model with a backbone.')
    settings = model.backbone.to_dict()
    settings.pop('pretrained', None)
    if checkpoints_of(settings.get('init_cfg')):
        del settings['init_cfg']  # --pretrained decides
    with quiet(), DefaultScope.overwrite_default_scope(cfg.default_scope):
        with MODELS.switch_scope_and_registry(None) as registry:
            kind = registry.get(settings['type'])
        # Networks for classification pool their last map, unless an option
        # prevents it.
        if 'featmap' in getattr(kind, 'OUT_TYPES', ()):  # ViTs
            settings['out_type'] = 'featmap'
        arguments = inspect.signature(kind).parameters if kind else ()
        if 'gap_before_final_norm' in arguments:
            settings['gap_before_final_norm'] = False
        net = MODELS.build(settings)
        net.init_weights()

    def read(images: Tensor) -> Tensor:
        maps = net(images)
        return maps[-1] if isinstance(maps, list | tuple) else maps

    numbers = {
        **(cfg.get('data_preprocessor') or {}),
        **(model.get('data_preprocessor') or {}),
    }
    parts = dict(net=net, read=read)
    if numbers:
        is_rgb = numbers.get('bgr_to_rgb') or numbers.get('to_rgb')
        # Without a mean, as in YOLOX, the network takes 0 to 255.
        parts.update(
            mean=tuple(map(float, numbers.get('mean') or (0, 0, 0))),
            std=tuple(map(float, numbers.get('std') or (1, 1, 1))),
            bgr=not is_rgb,
        )
    return parts


def _from_timm(name: str) -> dict:
    """Build a model of timm without its classifier."""
    try:
        import timm
        from timm.data import resolve_model_data_config
    except ImportError as error:
        raise UserError(
            f'timm:{name} needs timm: pip install -c '
            'requirements/constraints.txt timm'
        ) from error
    if not timm.is_model(name):
        raise UserError(
            f'timm has no model {name!r}.{suggest(name, timm.list_models())}'
        )
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        model, _, tag = name.partition('.')
        known = timm.list_pretrained(f'{model}.*')
        raise UserError(
            f'timm has no tag {tag!r} of {model}; it has {listed(known)}.'
        ) from error
    # Without this option, ViTs take images of one size only.
    is_vit = timm.models.model_entrypoint(name).__module__.endswith(
        'vision_transformer'
    )
    options = dict(dynamic_img_size=True) if is_vit else {}
    net = timm.create_model(name, num_classes=0, **options)
    if not hasattr(net, 'forward_intermediates'):
        raise UserError(f'timm gives no feature maps of {name!r}.')

    def read(images: Tensor) -> Tensor:
        return net.forward_intermediates(
            images, indices=1, norm=True, intermediates_only=True
        )[-1]

    data = resolve_model_data_config(net)
    return dict(
        net=net,
        read=read,
        mean=tuple(255 * value for value in data['mean']),
        std=tuple(255 * value for value in data['std']),
    )


def _from_torchvision(name: str) -> dict:
    """Build a CNN of torchvision without its classifier."""
    from torchvision import models
    from torchvision.models._utils import IntermediateLayerGetter

    if name not in models.list_models(models):
        known = models.list_models(models)
        raise UserError(
            f'{name!r} is neither a config file (.py) nor a model of '
            f'torchvision.{suggest(name, known)} A model of timm is named '
            'timm:NAME.'
        )
    net = models.get_model(name, weights=None)
    if isinstance(net, models.ResNet):
        net.fc = nn.Identity()
        stages = IntermediateLayerGetter(net, {'layer4': 'map'})
        return dict(net=net, read=lambda images: stages(images)['map'])
    if not hasattr(net, 'features') or not hasattr(net, 'classifier'):
        raise UserError(
            'Feature maps of torchvision models are read from CNNs only, and '
            f'{name} is not one: use timm:NAME.'
        )
    net.classifier = nn.Identity()
    return dict(net=net, read=net.features)
