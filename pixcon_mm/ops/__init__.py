"""Stand-in for mmcv's compiled operators, if mmcv was installed without them.

After this import, ``mmcv.ops`` and MMDetection can be imported without
compiled operators, and use torchvision's kernels.
"""

import sys

from pixcon_mm.ops.stand_in import StandInFinder

# The last one, so that a compiled mmcv._ext comes first.
sys.meta_path.append(StandInFinder())
