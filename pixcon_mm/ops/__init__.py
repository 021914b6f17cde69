"""Stand-in for mmcv's compiled operators, where mmcv comes without them.

After this import, ``mmcv.ops`` and MMDetection import without a compiler and
run on torchvision's kernels.
"""

from pixcon_mm.ops.stand_in import install

install()
