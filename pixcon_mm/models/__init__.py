"""PixCon's model classes; importing this registers them in mmpretrain."""

from pixcon_mm.models.data_preprocessor import TwoViewDataPreprocessor
from pixcon_mm.models.feature_queue import FeatureQueue
from pixcon_mm.models.head import PixConHead
from pixcon_mm.models.info_nce import QueueInfoNCELoss
from pixcon_mm.models.key_encoder import KeyEncoder
from pixcon_mm.models.neck import PixConNeck
from pixcon_mm.models.pixcon import PixCon

__all__ = [
    'FeatureQueue',
    'KeyEncoder',
    'PixCon',
    'PixConHead',
    'PixConNeck',
    'QueueInfoNCELoss',
    'TwoViewDataPreprocessor',
]
