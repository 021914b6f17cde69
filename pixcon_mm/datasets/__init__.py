"""Scene images and two-view transforms, registered in mmpretrain."""

from pixcon_mm.datasets.loading import LoadSceneImage
from pixcon_mm.datasets.sample_photometrics import SamplePhotometrics
from pixcon_mm.datasets.scene_images import SceneImageDataset
from pixcon_mm.datasets.transforms import (
    PackTwoViewInputs,
    PerViewTransforms,
    TwoViewRandomFlip,
    TwoViewRandomResizedCrop,
)

__all__ = [
    'SamplePhotometrics',
    'LoadSceneImage',
    'PackTwoViewInputs',
    'PerViewTransforms',
    'SceneImageDataset',
    'TwoViewRandomFlip',
    'TwoViewRandomResizedCrop',
]
