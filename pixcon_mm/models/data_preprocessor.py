"""Two views and their geometry, from the loader to the model's device."""

from typing import Any

import torch
from mmpretrain.models import SelfSupDataPreprocessor
from mmpretrain.registry import MODELS
from torch import Tensor

from pixcon_mm.errors import UserError
from pixcon_mm.models.geometry import Geometry
from pixcon_mm.models.info_nce import autocast_dtype
from pixcon_mm.models.photometrics import augment

ADVICE = (
    'use TwoViewRandomResizedCrop, TwoViewRandomFlip, SamplePhotometrics and '
    'PackTwoViewInputs in the train pipeline, with '
    "collate_fn=dict(type='default_collate')."
)


@MODELS.register_module()
class TwoViewDataPreprocessor(SelfSupDataPreprocessor):
    """Check, move, augment and normalise two views.

    If the pipeline has ``SamplePhotometrics``, colours are changed here,
    for the whole batch on the device.

    Views are computed in float32, then converted once to the dtype and memory
    format in which the first convolution of both encoders reads them. Autocast
    would convert them too, but keep the float32 views in memory for the whole
    step.

    Args:
        compile_colors (bool): In training on CUDA, change colours in code
            that torch.compile makes; see
            :func:`pixcon_mm.models.photometrics.compiled_jitter`.
        **kwargs: Arguments of mmpretrain's SelfSupDataPreprocessor.

    Attributes:
        memory_format (torch.memory_format): Memory format of the returned
            views; :class:`PixCon` sets it to that of its weights.
    """

    memory_format = torch.contiguous_format

    def __init__(self, compile_colors: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.compile_colors = compile_colors

    def forward(self, data: dict, training: bool = False) -> dict:
        """Move a collated batch to the device; augment and normalise it.

        Args:
            data (dict): Collated samples of ``PackTwoViewInputs``:
                ``inputs``, a list of two uint8 BGR batches of shape
                (B, 3, H, W), and ``data_samples`` with ``crop_boxes``
                (B, V, 4), ``flips`` (B, V) and, if sampled,
                ``photometrics``, a dict of (B, V, ...).
            training (bool): Whether the model will be trained. If not, one
                batch of whole images, as MMPretrain's FeatureExtractor
                passes it, is only normalised: ``inputs`` of shape
                (B, 3, H, W) and ``data_samples``, a list.

        Returns:
            dict: The arguments of :meth:`PixCon.forward`: ``inputs``, a list
            of two normalised batches (B, 3, H, W) in autocast's dtype, or
            float32 without autocast, and ``geometry``, a :class:`Geometry`.

        Raises:
            UserError: If the batch does not hold two views with geometry.
        """
        if not training and isinstance(data.get('data_samples'), list):
            return super().forward(data, training)
        check_views(data.get('inputs'))
        geometry = read_geometry(data.get('data_samples'))
        views, geometry = self.cast_data((data['inputs'], geometry))
        # They stay on the host: augment() reads there which images to change.
        photometrics = data['data_samples'].get('photometrics')
        inputs = []
        for index, view in enumerate(views):
            images = view.flip(1)  # RGB, which augment() needs
            if photometrics is None:
                images = images.float()
            else:
                numbers = {k: v[:, index] for k, v in photometrics.items()}
                compiled = (
                    self.compile_colors and self.training and view.is_cuda
                )
                images = augment(images / 255, numbers, compiled).mul_(255)
            if not self._channel_conversion:  # the model takes BGR
                images = images.flip(1)
            if self._enable_normalize:
                images = images.sub_(self.mean).div_(self.std)
            dtype = autocast_dtype(images)
            inputs.append(images.to(dtype, memory_format=self.memory_format))
        return dict(inputs=inputs, geometry=geometry)


def check_views(views: Any) -> None:
    """Raise UserError unless ``views`` is a list of two tensors."""
    is_list = isinstance(views, (list, tuple))
    if is_list and [isinstance(v, Tensor) for v in views] == [True, True]:
        return
    found = f'a {type(views).__name__}'
    if isinstance(views, Tensor):
        found = f'one batch of views, of shape {tuple(views.shape)}'
    elif is_list:
        found += f' of {len(views)}'
    raise UserError(
        'PixCon needs two batches of views, one for each view of an image, '
        f'but the pipeline gave {found}: {ADVICE}'
    )


def read_geometry(samples: Any) -> Geometry:
    """Build the geometry from collated ``data_samples``, or raise UserError.

    Args:
        samples (dict): Contains ``crop_boxes`` (B, V, 4) and ``flips``
            (B, V).
    """
    for name, shape in dict(crop_boxes=(2, 4), flips=(2,)).items():
        value = samples.get(name) if isinstance(samples, dict) else None
        if value is None or tuple(value.shape[1:]) != shape:
            raise UserError(
                'PixCon needs the geometry of both views, but the batch has '
                f'no {name!r} of shape (B, {", ".join(map(str, shape))}): '
                f'{ADVICE}'
            )
    return Geometry(samples['crop_boxes'], samples['flips'])
