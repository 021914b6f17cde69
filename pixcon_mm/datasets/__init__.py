"""Scene images and two-view transforms, registered in mmpretrain."""

from pixcon_mm.datasets.draw_photometrics import DrawPhotometrics
from pixcon_mm.datasets.loading import LoadSceneImage
from pixcon_mm.datasets.scene_images import SceneImageDataset
from pixcon_mm.datasets.transforms import (
    PackTwoViewInputs,
    PerViewTransforms,
    TwoViewRandomFlip,
    TwoViewRandomResizedCrop,
)

__all__ = [
    'DrawPhotometrics',
    'LoadSceneImage',
    'PackTwoViewInputs',
    'PerViewTransforms',
    'SceneImageDataset',
    'TwoViewRandomFlip',
    'TwoViewRandomResizedCrop',
]
