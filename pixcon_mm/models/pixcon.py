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
from pixcon_mm.models.head import ViewPair, pair_views
from pixcon_mm.models.key_encoder import KeyEncoder
from pixcon_mm.models.memory_format import safe_memory_format
from pixcon_mm.models.stem import pool_before_relu
from pixcon_mm.models.sync_bn import skip_search_for_empty_batches


def pick_view_to_enqueue(enqueued: int, pending: int) -> int:
    """Pick the view whose keys are enqueued, 0 or 1, with equal chance.

    The arguments are the only seed, so that all ranks and resumed runs pick
    the same view.

    Args:
        enqueued (int): Keys enqueued since the start, over all ranks.
        pending (int): Batches since the last optimiser step.
    """
    return random.Random(f'{enqueued}+{pending}').randrange(2)


@MODELS.register_module()
class PixCon(BaseSelfSupervisor):
    """Pixel-level contrastive learning on scene images.

    Pang et al., Revisiting Pixel-Level Contrastive Pre-Training on Scene
    Images, WACV 2024. Each view is the query once; the loss is the sum over
    both directions of (1 - lambda) * image InfoNCE + lambda * dense InfoNCE.
    ``loss_lambda=0`` is MoCo-v2+ and has no dense branch. Source:
    docs/method.md, section 2.

    Each queue gets one key per image from the key encoder. The image queue
    gets the normalised projection of a view (``ViewKeys.image``), the dense
    queue the normalised mean of the projections of that view's cells
    (``ViewKeys.mean_cell``). The view is picked once per batch, for both
    queues. :meth:`loss` keeps the keys until :meth:`after_optimizer_step`
    enqueues them, so a step never has its own keys as negatives.

    :meth:`after_optimizer_step` must follow each optimiser step; in a
    Runner, ``KeyEncoderUpdateHook`` calls it.

    Args:
        backbone (dict): Config of any mmpretrain backbone that returns one
            feature map.
        neck (dict): Config of :class:`PixConNeck`.
        head (dict): Config of :class:`PixConHead`: the variant.
        queue_len (int): K, length of each of the two queues.
        loss_lambda (float): Weight of the dense loss, in [0, 1].
        base_momentum (float): Momentum of the key encoder at the start, in
            MMEngine's convention 1 - m.
        end_momentum (float): The same at the end of training; the schedule
            between them is a cosine.
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
        # Scalars of the last step. MonitorHook logs them as mon_<name>.
        self.monitors: dict[str, Tensor | float] = {}
        # One entry per batch since the last optimiser step, which enqueues
        # them: keys of the image queue and of the dense queue, (B, C) each.
        self._pending: list[tuple[Tensor, Tensor | None]] = []
        # For _check_update.
        self._first_weight: Tensor | None = None
        self._has_updated = False
        # Now, not after DDP has wrapped the model: its gradient buckets keep
        # the strides that parameters have when they are wrapped.
        self.to(memory_format=self.memory_format)

    def init_weights(self) -> None:
        """Initialise the query encoder and start the key encoder there."""
        # Random numbers fill a tensor in the order of its memory. Filled in
        # the contiguous format, a seed gives the same weights in either one.
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
        """Run a mode of mmpretrain's models on the preprocessor's output.

        MMEngine's ``train_step`` passes that dict as keywords with
        ``mode='loss'``, which calls :meth:`loss`. MMPretrain names the second
        argument ``data_samples``; here it is the geometry.
        """
        return super().forward(inputs, geometry, mode)

    def encode(
        self, inputs: list[Tensor], geometry: Geometry
    ) -> list[ViewPair]:
        """Encode the arguments of :meth:`loss`; pair queries with keys."""
        # The keys first: their intermediate results are freed before the
        # queries' activations, which stay for the backward pass, take memory.
        keys = [self.key_encoder(view) for view in inputs]
        queries = [self.neck(self.backbone(view)) for view in inputs]
        return pair_views(queries, keys, geometry)

    @skip_search_for_empty_batches()
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
        pairs = self.encode(inputs, geometry)
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
            # The lower one of both branches, since either may collapse.
            monitors['feature_std'] = torch.minimum(
                monitors['feature_std'], image_std
            )
        self.monitors = monitors
        if self.training:
            pending = self._pending
            # Both queues have the same count.
            view = pick_view_to_enqueue(self.image_queue.count, len(pending))
            key = pairs[1 - view].key  # where the other view is the query
            pending.append((key.image, key.mean_cell))
        return losses

    @torch.no_grad()
    def after_optimizer_step(self, progress: float) -> None:
        """Update the key encoder, then enqueue the keys of this step.

        With gradient accumulation, a step has the keys of several batches.
        Every process calls this; the queues gather the keys of all of them.

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
        self._has_updated, self._first_weight = True, None

    def _check_update(self) -> None:
        """Raise if the optimiser has stepped without a key encoder update.

        Compares a weight with its first value until
        :meth:`after_optimizer_step` has been called once. Later steps skip
        the comparison, which waits for the device.
        """
        weight = next((p for p in self.parameters() if p.requires_grad), None)
        if self._has_updated or weight is None:
            return
        if self._first_weight is None:
            self._first_weight = weight.detach().clone()
        elif not torch.equal(weight, self._first_weight):
            raise UserError(
                'PixCon: the optimizer has stepped, but nothing has called '
                'after_optimizer_step(), which updates key encoder and '
                "queues: add dict(type='KeyEncoderUpdateHook') to the "
                "config's hooks."
            )
