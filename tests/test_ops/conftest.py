"""mmcv.ops on our stand-in, also where mmcv is compiled."""

import sys
from importlib.util import module_from_spec

import mmcv.ops  # noqa: F401
import pytest

from pixcon_mm.ops.stand_in import NAME, StandInFinder


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    finder = StandInFinder()
    spec = finder.find_spec(NAME, None)
    module = module_from_spec(spec)
    finder.exec_module(module)
    for name, user in list(sys.modules.items()):
        if name.startswith('mmcv.ops.') and hasattr(user, 'ext_module'):
            monkeypatch.setattr(user, 'ext_module', module)
    return module
