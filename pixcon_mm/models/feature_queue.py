"""A ring buffer of past keys: the negatives of the contrastive losses."""

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from pixcon_mm.errors import UserError


@MODELS.register_module()
class FeatureQueue(nn.Module):
    """The last K keys of all ranks, oldest overwritten first.

    Starts with L2-normalised Gaussian rows (reference file, section 1.2).
    Any number of keys may be enqueued at once: the write wraps around.

    Args:
        length (int): K, number of rows.
        channels (int): C, width of a row.

    Attributes:
        features (Tensor): Unit rows. Shape (K, C).
        count (int): Keys enqueued since the start, over all ranks; the
            next write begins at row ``count % length``. Saved and restored
            through the buffer ``num_enqueued``.
    """

    def __init__(self, length: int, channels: int):
        super().__init__()
        if length < 1:
            raise UserError(
                f'FeatureQueue: length={length} must be at least 1.'
            )
        rows = F.normalize(torch.randn(length, channels), dim=1)
        self.register_buffer('features', rows)
        self.register_buffer('num_enqueued', torch.zeros((), dtype=torch.long))
        # Reading a pointer from the device would cost a host sync each step.
        self.count = 0
        self._cast: Tensor | None = None
        self._cast_version = -1

    def rows(self, dtype: torch.dtype) -> Tensor:
        """All rows in a dtype, cast once and kept up to date since.

        Args:
            dtype (torch.dtype): Of the product with the queries.

        Returns:
            Tensor: Shape (K, C). Read only.
        """
        if dtype == self.features.dtype:
            return self.features
        kept = self._cast
        if (
            kept is None
            or (kept.dtype, kept.device) != (dtype, self.features.device)
            or self._cast_version != self.features._version
        ):
            self._cast = self.features.to(dtype)
            self._cast_version = self.features._version
        return self._cast

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
        is_current = self._cast_version == self.features._version
        kept = [self._cast] if self._cast is not None and is_current else []
        for rows in (self.features, *kept):
            rows[start : start + first] = keys[:first]
            rows[: len(keys) - first] = keys[first:]
        if kept:
            self._cast_version = self.features._version
        self.count += added
        self.num_enqueued.fill_(self.count)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self.count = int(self.num_enqueued)
