"""Two views and their geometry, from the loader to the model's device."""

from mmpretrain.models import SelfSupDataPreprocessor
from mmpretrain.registry import MODELS
from torch import Tensor

from pixcon_mm.errors import UserError
from pixcon_mm.models.photometrics import augment

GEOMETRY = dict(crop_boxes=(2, 4), flips=(2,))


@MODELS.register_module()
class TwoViewDataPreprocessor(SelfSupDataPreprocessor):
    """Check, move, augment and normalise two views.

    The loader hands over uint8: a quarter of the bytes. Colours are changed
    here, for the whole batch on the device, where the pipeline has
    ``SamplePhotometrics``. Takes the arguments of mmpretrain's
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
            dict: ``inputs``, normalised, and ``data_samples``, the geometry.

        Raises:
            UserError: If the batch does not hold two views with geometry.
        """
        views, samples = data.get('inputs'), data.get('data_samples')
        self._check(views, samples)
        # What was drawn stays on the host: it says which rows to work on.
        drawn = samples.get('photometrics')
        moved = self.cast_data(
            dict(views=views, geometry={k: samples[k] for k in GEOMETRY})
        )
        inputs = []
        for index, view in enumerate(moved['views']):
            images = view.flip(1).float()
            if drawn is not None:
                numbers = {k: v[:, index] for k, v in drawn.items()}
                images = augment(images.div_(255), numbers).mul_(255)
            if not self._channel_conversion:
                images = images.flip(1)
            if self._enable_normalize:
                images = images.sub_(self.mean).div_(self.std)
            inputs.append(images)
        return dict(inputs=inputs, data_samples=moved['geometry'])

    @staticmethod
    def _check(views, geometry) -> None:
        how = (
            'use TwoViewRandomResizedCrop, TwoViewRandomFlip, '
            'SamplePhotometrics and PackTwoViewInputs in the train pipeline, '
            "with collate_fn=dict(type='default_collate')."
        )
        if isinstance(views, Tensor):
            raise UserError(
                'PixCon needs two views of each image, but the pipeline '
                f'gave one, of shape {tuple(views.shape)}: {how}'
            )
        two = isinstance(views, (list, tuple)) and len(views) == 2
        if not two or not all(isinstance(view, Tensor) for view in views):
            kind = type(views).__name__
            count = f' of {len(views)}' if hasattr(views, '__len__') else ''
            raise UserError(
                'PixCon needs two batches of views, but the pipeline gave '
                f'a {kind}{count}: {how}'
            )
        for name, shape in GEOMETRY.items():
            value = geometry.get(name) if isinstance(geometry, dict) else None
            if value is None or tuple(value.shape[1:]) != shape:
                raise UserError(
                    f'PixCon needs the geometry of both views, but the batch '
                    f'has no {name!r} of shape (B, '
                    f'{", ".join(map(str, shape))}): {how}'
                )
