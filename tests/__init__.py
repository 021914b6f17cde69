"""Tests; what several of them need is in conftest.py, commands.py, toy.py."""

import shutil
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
# Of tests that should show the same anywhere.
DEVICES = ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)]
needs_compiler = pytest.mark.skipif(
    shutil.which('g++') is None or ' ' in torch.__file__,
    reason='torch.compile needs a C++ compiler and, on a CPU, a path without '
    'spaces to PyTorch',
)
