"""Makes a run train in double precision, where rounding hides nothing.

To be imported by a config, before its model is built.
"""

import torch
from mmpretrain.registry import MODELS

from pixcon_mm.models import TwoViewDataPreprocessor

torch.set_default_dtype(torch.float64)
# Who asks for single precision by name gets double, too.
torch.Tensor.float = torch.Tensor.double


@MODELS.register_module()
class DoubleDataPreprocessor(TwoViewDataPreprocessor):
    """The pre-training's, with what was drawn for the images in float64."""

    def forward(self, data: dict, training: bool = False) -> dict:
        """See the base class."""
        drawn = data['data_samples']['photometrics']
        for name, value in drawn.items():
            if value.is_floating_point():
                drawn[name] = value.double()
        return super().forward(data, training)
