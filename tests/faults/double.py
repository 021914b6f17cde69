"""A run in double precision, where rounding hides nothing."""

import torch
from mmpretrain.registry import MODELS

from pixcon_mm.models import TwoViewDataPreprocessor


@MODELS.register_module()
class DoubleDataPreprocessor(TwoViewDataPreprocessor):
    """The pre-training's, in a process that computes in float64.

    A model builds it before its other parts.
    """

    def __init__(self, *args, **kwargs):
        torch.set_default_dtype(torch.float64)
        # Who asks for single precision by name gets double, too.
        torch.Tensor.float = torch.Tensor.double
        super().__init__(*args, **kwargs)

    def forward(self, data: dict, training: bool = False) -> dict:
        """See the base class."""
        drawn = data['data_samples']['photometrics']
        for name, value in drawn.items():
            if value.is_floating_point():
                drawn[name] = value.double()
        return super().forward(data, training)
