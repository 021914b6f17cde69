"""The release's linear warm-up."""

from mmengine.optim import LinearLR
from mmengine.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class WarmupLR(LinearLR):
    """LinearLR that reaches the full rate right after its last iteration.

    MMEngine's reaches it one step early. With this one, chained with a
    cosine over all epochs, iteration t of a warm-up of T iterations has the
    factor 1 - (1 - t / T)(1 - start_factor) (reference file, section 3.1).
    Takes LinearLR's arguments.
    """

    @classmethod
    def build_iter_from_epoch(
        cls, *args, begin=0, end=1, epoch_length=None, by_epoch=True, **kwargs
    ):
        """Convert epochs to iterations, one more than their number."""
        return cls(
            *args,
            begin=int(begin * epoch_length),
            end=int(end * epoch_length) + 1,
            by_epoch=False,
            **kwargs,
        )
