"""A ring buffer of past keys: the negatives of the contrastive losses."""

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather
from torch import Tensor, nn

from pixcon_mm.errors import UserError


class FeatureQueue(nn.Module):
    """The last K keys of all ranks; new keys overwrite the oldest ones.

    Starts with L2-normalised Gaussian rows (docs/method.md, section 7). Every
    rank has its own copy of the queue. The copies are equal, because each rank
    enqueues the keys of all ranks, and because MMEngine's Runner broadcasts
    the rows of rank 0 after the initialisation. DDP alone does not, with
    ``broadcast_buffers=False``: a loop without a Runner needs one seed for
    all ranks.

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

        All ranks must call this, with equally many keys. The keys of rank 0
        are written first, then those of rank 1, and so on.

        Args:
            keys (Tensor): Unit rows of this rank. Shape (B, C), with any B.
        """
        # Shape (ranks * B, C).
        keys = torch.cat(all_gather(keys.to(self.features.dtype)))
        self.count += len(keys)
        # Of more keys than rows, only the last ones remain.
        keys = keys[-len(self.features) :]
        start = self.count - len(keys)
        rows = torch.arange(start, self.count, device=keys.device)
        self.features[rows % len(self.features)] = keys

    def get_extra_state(self) -> Tensor:
        """Return ``count`` for the state dict, as a tensor of shape ()."""
        return torch.tensor(self.count)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore ``count``."""
        self.count = int(state)
