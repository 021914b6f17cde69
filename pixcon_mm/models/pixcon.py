"""PixCon: the two-view step that pre-trains a backbone on scene images."""

import random

import torch
from mmpretrain.models import BaseSelfSupervisor
from mmpretrain.registry import MODELS
from torch import Tensor

from pixcon_mm.errors import UserError
from pixcon_mm.models.feature_queue import FeatureQueue
from pixcon_mm.models.head import normalize
from pixcon_mm.models.key_encoder import KeyEncoder
from pixcon_mm.models.memory_format import safe_memory_format
from pixcon_mm.models.neck import ViewFeatures

MAX_PENDING = 1000


def toss(enqueued: int, pending: int) -> int:
    """Which view's keys to enqueue: a fair coin, 0 or 1.

    A function of the step alone, so that it falls alike on all ranks and
    after a resume.

    Args:
        enqueued (int): Keys that the queue has taken so far.
        pending (int): Batches since the last optimiser step.
    """
    return random.Random(f'{enqueued}+{pending}').randrange(2)


@MODELS.register_module()
class PixCon(BaseSelfSupervisor):
    """Pixel-level contrastive learning on scene images.

    Pang et al., Revisiting Pixel-Level Contrastive Pre-Training on Scene
    Images, WACV 2024. Each view is query once; the loss is the sum over both
    directions of (1 - lambda) * image InfoNCE + lambda * dense InfoNCE.
    ``loss_lambda=0`` is MoCo-v2+ and has no dense branch. Source: reference
    file, section 1.

    :meth:`after_optimizer_step` must follow each optimiser step; in a
    Runner, ``KeyEncoderUpdateHook`` does that.

    Args:
        backbone (dict): Any mmpretrain backbone that gives one feature map.
        neck (dict): Config of :class:`PixConNeck`.
        head (dict): Config of :class:`PixConHead`: the variant.
        queue_len (int): K, length of each of the two queues.
        loss_lambda (float): Weight of the dense loss, in [0, 1].
        base_momentum (float): Momentum of the key encoder at the start, in
            MMEngine's convention 1 - m.
        end_momentum (float): The same at the end, after a cosine.
        channels_last (bool): Keep feature maps pixel by pixel in memory, as
            the convolutions of GPUs with tensor cores and of oneDNN want
            them. The same numbers up to rounding.
        compile_backbone (bool): Run both backbones through torch.compile.
            Needs a C++ compiler, and minutes at the first step. The same
            numbers up to rounding.
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
            data_preprocessor=dict(
                dict(type='TwoViewDataPreprocessor'),
                **(data_preprocessor or {}),
            ),
            init_cfg=init_cfg,
        )
        self.loss_lambda = loss_lambda
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
        if compile_backbone:
            # In place, so that the names of the weights stay.
            self.backbone.compile()
            self.key_encoder.backbone.compile()
        self.monitors: dict[str, Tensor | float] = {}
        self._pending: list[tuple[Tensor, Tensor | None]] = []
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

    def loss(
        self, inputs: list[Tensor], data_samples: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Losses of one batch of view pairs.

        Args:
            inputs (list[Tensor]): Two normalised views, each of shape
                (B, 3, H, W).
            data_samples (dict[str, Tensor]): The views' geometry:
                ``crop_boxes`` (B, V, 4) in image pixels, ``flips`` (B, V).

        Returns:
            dict[str, Tensor]: ``loss_image`` and ``loss_dense``, scalars.
        """
        inputs = [
            v.contiguous(memory_format=self.memory_format) for v in inputs
        ]
        # The keys first: what their passes need in between is gone before
        # the queries' activations pile up.
        with torch.no_grad():
            keys = [
                self.key_encoder.neck(self.key_encoder.backbone(view))
                for view in inputs
            ]
        queries = [self.neck(self.backbone(view)) for view in inputs]
        image_loss, self.monitors = self.head.image_loss(
            queries, keys, self.image_queue
        )
        losses = dict(loss_image=(1 - self.loss_lambda) * image_loss)
        if self.dense_queue is not None:
            dense_loss, monitors = self.head.dense_loss(
                queries, keys, data_samples, self.dense_queue
            )
            losses['loss_dense'] = self.loss_lambda * dense_loss
            self._add_monitors(monitors)
        if self.training:
            self._keep_keys(keys)
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

    @torch.no_grad()
    def _keep_keys(self, keys: list[ViewFeatures]) -> None:
        """Keep one view's keys, by the toss of a coin, for the queues."""
        if len(self._pending) >= MAX_PENDING:
            raise RuntimeError(
                f'PixCon: the keys of {MAX_PENDING} batches wait for the '
                'queues, so after_optimizer_step() is never called: add '
                "dict(type='KeyEncoderUpdateHook') to the config's hooks."
            )
        view = keys[toss(self.image_queue.count, len(self._pending))]
        dense_keys = None
        if view.cells is not None:
            wide = torch.promote_types(view.cells.dtype, torch.float32)
            dense_keys = normalize(view.cells.mean(-1, dtype=wide))
        self._pending.append((normalize(view.image), dense_keys))

    def _add_monitors(self, dense: dict[str, Tensor]) -> None:
        """Show the dense branch's monitors, and the smaller spread."""
        dense['feat_std'] = torch.minimum(
            dense['feat_std'], self.monitors['feat_std']
        )
        self.monitors = dense
