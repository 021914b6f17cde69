"""mmcv's operators can be imported by these tests only after this."""

import pixcon_mm  # noqa: F401
