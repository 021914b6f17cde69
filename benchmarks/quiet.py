"""A benchmark prints its table, not what frameworks say while loading."""

import contextlib
import importlib
import io
import logging
import warnings


def quiet() -> None:
    """Import the frameworks and build models without their remarks."""
    warnings.filterwarnings('ignore')
    logging.disable(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()):
        importlib.import_module('mmpretrain.models')
        importlib.import_module('mmpretrain.datasets')
        importlib.import_module('pixcon_mm.models')
        importlib.import_module('pixcon_mm.datasets')
        registry = importlib.import_module('mmengine.registry')
    registry.init_default_scope('mmpretrain')
