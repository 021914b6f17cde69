"""Tests; what several of them need is in conftest.py, commands.py, toy.py."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
