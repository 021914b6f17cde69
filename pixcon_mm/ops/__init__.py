"""Stand-in for mmcv's compiled operators, if mmcv was installed without them.

After this import, ``mmcv.ops`` and MMDetection can be imported without
compiled operators, and use torchvision's kernels.
"""

from pixcon_mm.ops.stand_in import install

install()
