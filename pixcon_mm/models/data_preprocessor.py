"""Two views and their geometry, from the loader to the model's device."""

from mmpretrain.models import SelfSupDataPreprocessor
from mmpretrain.registry import MODELS
from torch import Tensor

from pixcon_mm.errors import UserError
from pixcon_mm.models.geometry import Geometry
from pixcon_mm.models.photometrics import augment

PIPELINE = (
    'use TwoViewRandomResizedCrop, TwoViewRandomFlip, SamplePhotometrics and '
    'PackTwoViewInputs in the train pipeline, with '
    "collate_fn=dict(type='default_collate')."
)


@MODELS.register_module()
class TwoViewDataPreprocessor(SelfSupDataPreprocessor):
    """Check, move, augment and normalise two views.

    The loader gives uint8 images: a quarter of the bytes. Where the pipeline
    has ``SamplePhotometrics``, colours are changed here, for the whole batch
    on the device. Takes the arguments of mmpretrain's
    SelfSupDataPreprocessor.
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        """Move a collated batch to the device and finish its views.

        Args:
            data (dict): ``inputs``, two uint8 BGR batches of shape
                (B, 3, H, W), and ``data_samples`` with ``crop_boxes``
                (B, V, 4), ``flips`` (B, V) and perhaps ``photometrics``.
            training (bool): Not used.

        Returns:
            dict: ``inputs``, two normalised batches, and ``geometry``, a
            :class:`Geometry`: what :meth:`PixCon.loss` takes.

        Raises:
            UserError: If the batch does not hold two views with geometry.
        """
        check_views(data.get('inputs'))
        samples = data.get('data_samples')
        geometry = read_geometry(samples)
        # Sampled numbers stay on the host: they say which rows to work on.
        sampled = samples.get('photometrics')
        views, geometry = self.cast_data((data['inputs'], geometry))
        inputs = []
        for index, view in enumerate(views):
            images = view.flip(1).float()
            if sampled is not None:
                numbers = {k: v[:, index] for k, v in sampled.items()}
                images = augment(images.div_(255), numbers).mul_(255)
            if not self._channel_conversion:
                images = images.flip(1)
            if self._enable_normalize:
                images = images.sub_(self.mean).div_(self.std)
            inputs.append(images)
        return dict(inputs=inputs, geometry=geometry)


def check_views(views) -> None:
    """Raise UserError unless there are two batches of views."""
    if isinstance(views, Tensor):
        raise UserError(
            'PixCon needs two views of each image, but the pipeline gave '
            f'one, of shape {tuple(views.shape)}: {PIPELINE}'
        )
    is_pair = isinstance(views, (list, tuple)) and len(views) == 2
    if not is_pair or not all(isinstance(view, Tensor) for view in views):
        count = f' of {len(views)}' if hasattr(views, '__len__') else ''
        raise UserError(
            'PixCon needs two batches of views, but the pipeline gave a '
            f'{type(views).__name__}{count}: {PIPELINE}'
        )


def read_geometry(samples) -> Geometry:
    """Take the geometry out of ``data_samples``, or raise UserError."""
    for name, shape in dict(crop_boxes=(2, 4), flips=(2,)).items():
        value = samples.get(name) if isinstance(samples, dict) else None
        if value is None or tuple(value.shape[1:]) != shape:
            raise UserError(
                'PixCon needs the geometry of both views, but the batch has '
                f'no {name!r} of shape (B, {", ".join(map(str, shape))}): '
                f'{PIPELINE}'
            )
    return Geometry(samples['crop_boxes'], samples['flips'])
