"""Two views and their geometry, from the loader to the model's device."""

from mmpretrain.models import SelfSupDataPreprocessor
from mmpretrain.registry import MODELS
from torch import Tensor

from pixcon_mm.errors import UserError

GEOMETRY = dict(crop_boxes=(2, 4), flips=(2,))


@MODELS.register_module()
class TwoViewDataPreprocessor(SelfSupDataPreprocessor):
    """Check, move and normalise two views and their geometry.

    Takes the arguments of mmpretrain's SelfSupDataPreprocessor.
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        """Move a collated batch to the device and normalise its views.

        Args:
            data (dict): ``inputs``, two uint8 batches of shape
                (B, 3, H, W), and ``data_samples`` with ``crop_boxes``
                (B, V, 4) and ``flips`` (B, V).
            training (bool): Not used.

        Returns:
            dict: The same keys, with float views.

        Raises:
            UserError: If the batch does not hold two views with geometry.
        """
        views, geometry = data.get('inputs'), data.get('data_samples')
        self._check(views, geometry)
        geometry = {name: geometry[name] for name in GEOMETRY}
        # The parent takes its two values by order.
        return super().forward(
            dict(inputs=list(views), data_samples=geometry), training
        )

    @staticmethod
    def _check(views, geometry) -> None:
        how = (
            'use TwoViewRandomResizedCrop, TwoViewRandomFlip, '
            'PerViewTransforms and PackTwoViewInputs in the train pipeline, '
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
