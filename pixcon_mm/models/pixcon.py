"""PixCon: the two-view step that pre-trains a backbone on scene images."""

import random
from typing import Any

import torch
from mmpretrain.models import BaseSelfSupervisor
from mmpretrain.registry import MODELS
from torch import Tensor

from pixcon_mm.errors import UserError
from pixcon_mm.models.feature_queue import FeatureQueue
from pixcon_mm.models.geometry import Geometry
from pixcon_mm.models.head import pair_views
from pixcon_mm.models.key_encoder import KeyEncoder
from pixcon_mm.models.memory_format import safe_memory_format
from pixcon_mm.models.stem import pool_before_relu


def pick_view_to_enqueue(enqueued: int, pending: int) -> int:
    """Pick the view whose keys are enqueued, 0 or 1, with equal chance.

    Depends on the step alone, so that all ranks and resumed runs agree.

    Args:
        enqueued (int): Keys enqueued since the start, over all ranks.
        pending (int): Batches since the last optimiser step.
    """
    return random.Random(f'{enqueued}+{pending}').randrange(2)


@MODELS.register_module()
class PixCon(BaseSelfSupervisor):
    """Pixel-level contrastive learning on scene images.

    Pang et al., Revisiting Pixel-Level Contrastive Pre-Training on Scene
    Images, WACV 2024. Each view is query once; the loss is the sum over both
    directions of (1 - lambda) * image InfoNCE + lambda * dense InfoNCE.
    ``loss_lambda=0`` is MoCo-v2+ and has no dense branch. Source:
    docs/method.md, section 2.

    Each queue gets one key an image from the key encoder: the image queue
    the normalised projection of a view, the dense queue the normalised mean
    of the projections of the view's cells (:class:`ViewKeys`). The view is
    picked once a batch, for both queues.

    :meth:`after_optimizer_step` must follow each optimiser step; in a
    Runner, ``KeyEncoderUpdateHook`` calls it.

    Args:
        backbone (dict): Any mmpretrain backbone that gives one feature map.
        neck (dict): Config of :class:`PixConNeck`.
        head (dict): Config of :class:`PixConHead`: the variant.
        queue_len (int): K, length of each of the two queues.
        loss_lambda (float): Weight of the dense loss, in [0, 1].
        base_momentum (float): Momentum of the key encoder at the start, in
            MMEngine's convention 1 - m.
        end_momentum (float): The same at the end, after a cosine.
        channels_last (bool): Keep feature maps pixel by pixel in memory,
            which is faster on tensor cores and with oneDNN.
        compile_backbone (bool): Run both backbones through torch.compile.
            Needs a C++ compiler, and minutes at the first step.
        data_preprocessor (dict): Config of
            :class:`TwoViewDataPreprocessor`.
        init_cfg (dict, optional): Initialisation.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict,
        queue_len: int = 65536,
        loss_lambda: float = 0.5,
        base_momentum: float = 0.01,
        end_momentum: float = 0.0,
        channels_last: bool = False,
        compile_backbone: bool = False,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ):
        if not 0 <= loss_lambda <= 1:
            raise UserError(
                f'PixCon: loss_lambda={loss_lambda} must lie in [0, 1].'
            )
        with_dense = loss_lambda > 0
        super().__init__(
            backbone=backbone,
            neck=dict(neck, with_dense=with_dense),
            head=dict(head, with_dense=with_dense),
            data_preprocessor={
                'type': 'TwoViewDataPreprocessor',
                **(data_preprocessor or {}),
            },
            init_cfg=init_cfg,
        )
        self.loss_lambda = loss_lambda
        pool_before_relu(self.backbone)
        self.key_encoder = KeyEncoder(
            self.backbone, self.neck, base_momentum, end_momentum
        )
        channels = self.neck.out_channels
        self.image_queue = FeatureQueue(queue_len, channels)
        self.dense_queue = (
            FeatureQueue(queue_len, channels) if with_dense else None
        )
        self.memory_format = safe_memory_format(
            self,
            torch.channels_last if channels_last else torch.contiguous_format,
        )
        self.data_preprocessor.memory_format = self.memory_format
        if compile_backbone:
            # In place, so that the names of the weights stay.
            self.backbone.compile()
            self.key_encoder.backbone.compile()
        self.monitors: dict[str, Tensor | float] = {}
        # Keys for the image queue and for the dense queue, (B, C) each, by
        # batch; they are enqueued after the optimiser step.
        self._pending: list[tuple[Tensor, Tensor | None]] = []
        self._start: Tensor | None = None
        self._is_updated = False
        # Now, not after DDP has wrapped the model: its gradient buckets keep
        # the strides that parameters have when they are wrapped.
        self.to(memory_format=self.memory_format)

    def init_weights(self) -> None:
        """Initialise the query encoder and start the key encoder there."""
        # Random numbers fill a tensor in the order of its memory. In the
        # plain order, a seed gives the same weights in either format.
        self.to(memory_format=torch.contiguous_format)
        super().init_weights()
        self.key_encoder.copy_from(self.backbone, self.neck)
        self.to(memory_format=self.memory_format)

    def forward(
        self,
        inputs: list[Tensor],
        geometry: Geometry | None = None,
        mode: str = 'tensor',
    ) -> Any:
        """Run a mode of mmpretrain's models on the preprocessor's output."""
        return super().forward(inputs, geometry, mode)

    def loss(
        self, inputs: list[Tensor], geometry: Geometry
    ) -> dict[str, Tensor]:
        """Compute the losses of one batch of view pairs.

        Args:
            inputs (list[Tensor]): Two normalised views, each of shape
                (B, 3, H, W).
            geometry (Geometry): The views' crop boxes and flips.

        Returns:
            dict[str, Tensor]: ``loss_image`` and ``loss_dense``, scalars.
        """
        if self.training:
            self._check_update()
        views = [
            v.contiguous(memory_format=self.memory_format) for v in inputs
        ]
        # The keys first: what their passes need in between is gone before
        # the queries' activations pile up.
        keys = [self.key_encoder(view) for view in views]
        queries = [self.neck(self.backbone(view)) for view in views]
        pairs = pair_views(queries, keys, geometry)

        image_loss, monitors = self.head.image_loss(
            pairs, self.image_queue.features
        )
        losses = dict(loss_image=(1 - self.loss_lambda) * image_loss)
        if self.dense_queue is not None:
            image_std = monitors['feature_std']
            dense_loss, monitors = self.head.dense_loss(
                pairs, self.dense_queue.features
            )
            losses['loss_dense'] = self.loss_lambda * dense_loss
            # Either branch may collapse.
            monitors['feature_std'] = torch.minimum(
                monitors['feature_std'], image_std
            )
        self.monitors = monitors
        if self.training:
            pending = self._pending
            view = pick_view_to_enqueue(self.image_queue.count, len(pending))
            pending.append((keys[view].image, keys[view].mean_cell))
        return losses

    @torch.no_grad()
    def after_optimizer_step(self, progress: float) -> None:
        """Move the key encoder, then enqueue the keys of this step.

        Under gradient accumulation, once for all its batches.

        Args:
            progress (float): Share of training done, 0 to 1.
        """
        self.monitors['momentum'] = self.key_encoder.update(
            self.backbone, self.neck, progress
        )
        image_keys, dense_keys = zip(*self._pending, strict=True)
        self.image_queue.enqueue(torch.cat(image_keys))
        if self.dense_queue is not None:
            self.dense_queue.enqueue(torch.cat(dense_keys))
        self._pending.clear()
        self._is_updated, self._start = True, None

    def _check_update(self) -> None:
        """Raise if the optimiser has stepped and the key encoder has not.

        Compares a weight with its start, and so waits for the device, only
        until :meth:`after_optimizer_step` is called for the first time.
        """
        weight = next((p for p in self.parameters() if p.requires_grad), None)
        if self._is_updated or weight is None:
            return
        if self._start is None:
            self._start = weight.detach().clone()
        elif not torch.equal(weight, self._start):
            raise UserError(
                'PixCon: the optimizer has stepped, but nothing has called '
                'after_optimizer_step(), which updates key encoder and '
                "queues: add dict(type='KeyEncoderUpdateHook') to the "
                "config's hooks."
            )
