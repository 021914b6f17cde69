"""Tests; what several of them need is in conftest.py, commands.py, toy.py."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Of tests that should show the same anywhere.
DEVICES = ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)]
