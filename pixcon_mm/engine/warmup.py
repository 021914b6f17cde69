"""The release's linear warm-up."""

from mmengine.optim import LinearLR
from mmengine.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class WarmupLR(LinearLR):
    """LinearLR that reaches the full rate right after its last iteration.

    MMEngine's reaches it one step early. With this one, iteration t of a
    warm-up of T iterations has the factor 1 - (1 - t / T)(1 - start_factor)
    (reference file, sections 3.1 and 4.2). Takes LinearLR's arguments; to be
    used by iterations, or by epochs with ``convert_to_iter_based``.
    """

    def __init__(self, *args, end: int, by_epoch: bool = True, **kwargs):
        end = end if by_epoch else end + 1
        super().__init__(*args, end=end, by_epoch=by_epoch, **kwargs)
