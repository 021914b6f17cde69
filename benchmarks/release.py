"""PixCon as the release formulates it: what ours is measured against.

Equal in result, as the tests show (docs/method.md, section 11).
"""

import copy

import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from pixcon_mm.models.data_preprocessor import TwoViewDataPreprocessor
from pixcon_mm.models.info_nce import InfoNCETerms
from pixcon_mm.models.key_encoder import KeyEncoder, cosine_momentum


class ReleaseInfoNCE(nn.Module):
    """Cross-entropy over logits that are built, direction by direction.

    Args:
        temperature (float): tau.
    """

    def __init__(self, temperature: float = 0.2):
        super().__init__()
        self.temperature = temperature

    def forward(
        self, query: Tensor, positive: Tensor, queue: Tensor
    ) -> InfoNCETerms:
        """Compute both directions, one by one, each on a clone of the queue.

        The log-sum of the negatives, which the release does not compute, is
        left at zero.
        """
        losses, scores = [], []
        for rows, keys in zip(query.chunk(2), positive.chunk(2), strict=True):
            score = (rows * keys).sum(1, keepdim=True)
            logits = torch.cat([score, rows @ queue.clone().T], dim=1)
            logits = logits / self.temperature
            target = logits.new_zeros(len(logits), dtype=torch.long)
            losses.append(F.cross_entropy(logits, target, reduction='none'))
            scores.append(logits.detach()[:, 0].clone())
        loss = torch.cat(losses)
        return InfoNCETerms(loss, torch.cat(scores), torch.zeros_like(loss))


class ReleaseKeyEncoder(KeyEncoder):
    """A momentum encoder that moves one parameter after the other."""

    @torch.no_grad()
    def update(
        self, backbone: nn.Module, neck: nn.Module, progress: float
    ) -> float:
        """See :meth:`KeyEncoder.update`."""
        momentum = cosine_momentum(
            progress, self.base_momentum, self.end_momentum
        )
        for mine, theirs in ((self.backbone, backbone), (self.neck, neck)):
            for key, query in zip(
                mine.parameters(), theirs.parameters(), strict=True
            ):
                key.data = key.data * (1 - momentum) + query.data * momentum
        return 1 - momentum


class ReleasePreprocessor(TwoViewDataPreprocessor):
    """A preprocessor that gives views in float32."""

    def forward(self, data: dict, training: bool = False) -> dict:
        """See :meth:`TwoViewDataPreprocessor.forward`."""
        with torch.autocast(self.device.type, enabled=False):
            return super().forward(data, training)


def as_released(model_cfg: dict) -> nn.Module:
    """Build a PixCon whose loss, stem, inputs and key encoder are plain.

    Args:
        model_cfg (dict): Config of :class:`PixCon`.
    """
    model = MODELS.build(
        dict(model_cfg, channels_last=False, compile_backbone=False)
    )
    model.backbone = MODELS.build(model_cfg['backbone'])
    model.key_encoder.backbone = copy.deepcopy(model.backbone)
    model.key_encoder.requires_grad_(False)
    model.data_preprocessor.__class__ = ReleasePreprocessor
    model.head.loss_module = ReleaseInfoNCE(model.head.loss_module.temperature)
    model.key_encoder.__class__ = ReleaseKeyEncoder
    return model


def sgd_by_parameter(model: nn.Module, **options) -> torch.optim.SGD:
    """SGD with a group for each parameter, as the release builds it."""
    groups = [dict(params=[p]) for p in model.parameters() if p.requires_grad]
    return torch.optim.SGD(groups, **options)
