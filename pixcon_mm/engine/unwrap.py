"""The model inside its wrapper for several processes."""

from mmengine.model import is_model_wrapper
from torch import nn


def unwrap(model: nn.Module) -> nn.Module:
    """The model itself, whether or not it is wrapped, as for DDP."""
    return model.module if is_model_wrapper(model) else model
