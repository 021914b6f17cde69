"""Stand-in for mmcv's compiled operators, where mmcv comes without them.

Importing this is enough: ``mmcv.ops``, and MMDetection with it, then import
without a compiler, on torchvision's kernels.
"""

from pixcon_mm.ops.stand_in import install

install()
