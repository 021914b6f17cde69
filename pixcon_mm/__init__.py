"""PixCon pre-training on scene images, for OpenMMLab.

Importing this package registers the hooks and the runner that all tasks use.
Configs import the modules that register models and data sets.
"""

from pixcon_mm import compat as compat  # first: it changes later imports
from pixcon_mm import engine as engine
from pixcon_mm import ops as ops
from pixcon_mm.evaluation.backbones import load_backbone as load_backbone
from pixcon_mm.evaluation.features import dense_features as dense_features

__version__ = '0.1.0'
