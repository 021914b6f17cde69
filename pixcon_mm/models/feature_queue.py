"""A ring buffer of past keys: the negatives of the contrastive losses."""

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from pixcon_mm.errors import UserError


@MODELS.register_module()
class FeatureQueue(nn.Module):
    """The last K keys of all ranks, the oldest overwritten first.

    Starts with L2-normalised Gaussian rows (docs/method.md, section 7). Any
    number of keys may be enqueued at once: writing wraps around.

    Args:
        length (int): K, number of rows.
        channels (int): C, width of a row.

    Attributes:
        features (Tensor): The keys, unit rows. Shape (K, C).
        count (int): Keys enqueued since the start, over all ranks; the next
            write begins at row ``count % length``. Saved as the module's
            extra state: a buffer on a GPU could not be read without waiting.
    """

    features: Tensor

    def __init__(self, length: int, channels: int):
        super().__init__()
        if length < 1:
            raise UserError(
                f'FeatureQueue: length={length} must be at least 1.'
            )
        rows = F.normalize(torch.randn(length, channels), dim=1)
        self.register_buffer('features', rows)
        self.count = 0

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Overwrite the oldest rows with the keys of all ranks.

        Args:
            keys (Tensor): Unit rows of this rank. Shape (B, C).
        """
        keys = torch.cat(all_gather(keys.to(self.features.dtype)))
        length, added = len(self.features), len(keys)
        start = (self.count + max(added - length, 0)) % length
        keys = keys[-length:]
        first = min(len(keys), length - start)
        self.features[start : start + first] = keys[:first]
        self.features[: len(keys) - first] = keys[first:]
        self.count += added

    def get_extra_state(self) -> Tensor:
        """Return ``count`` for the state dict, as a tensor."""
        return torch.tensor(self.count)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore ``count``."""
        self.count = int(state)
