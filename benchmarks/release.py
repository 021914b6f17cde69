"""PixCon in the formulation of the release, as a baseline for speed.

Its results are equal to ours, as tests check (docs/method.md, section 11).
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
    """InfoNCE as cross-entropy, which builds all logits in memory.

    Args:
        temperature (float): Temperature tau.
    """

    def __init__(self, temperature: float = 0.2):
        super().__init__()
        self.temperature = temperature

    def forward(
        self, query: Tensor, positive: Tensor, queue: Tensor
    ) -> InfoNCETerms:
        """Compute both directions in turn, each with a clone of the queue.

        The log-sum of the negatives is zero, as the release does not compute
        it.
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
    """Key encoder that updates one parameter after the other."""

    @torch.no_grad()
    def update(
        self, backbone: nn.Module, neck: nn.Module, progress: float
    ) -> float:
        """See :meth:`KeyEncoder.update`."""
        momentum = cosine_momentum(
            progress, self.base_momentum, self.end_momentum
        )
        parts = ((self.backbone, backbone), (self.neck, neck))
        for key_part, query_part in parts:
            for key, query in zip(
                key_part.parameters(), query_part.parameters(), strict=True
            ):
                key.data = key.data * (1 - momentum) + query.data * momentum
        return 1 - momentum


class ReleasePreprocessor(TwoViewDataPreprocessor):
    """Preprocessor that returns views in float32."""

    def forward(self, data: dict, training: bool = False) -> dict:
        """See :meth:`TwoViewDataPreprocessor.forward`."""
        with torch.autocast(self.device.type, enabled=False):
            return super().forward(data, training)


def as_released(model_cfg: dict) -> nn.Module:
    """Build PixCon with the loss, inputs and key encoder of the release.

    Its stem is not optimised either.

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
    """Build SGD with a group for each parameter, as the release does."""
    groups = [dict(params=[p]) for p in model.parameters() if p.requires_grad]
    return torch.optim.SGD(groups, **options)
