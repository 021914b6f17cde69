"""Shipped configs by name: their folder and stem."""

from mmengine.config import Config

from pixcon_mm.config import load_config
from tests import ROOT

CONFIGS = ROOT / 'configs'


def list_recipes(folders: str = '[!_]*') -> list[str]:
    """List recipes in folders of a pattern, as ``pretrain/byol_r50_coco``."""
    return sorted(
        path.relative_to(CONFIGS).with_suffix('').as_posix()
        for path in CONFIGS.glob(f'{folders}/*.py')
    )


def path_of(name: str) -> str:
    return str(CONFIGS / f'{name}.py')


def load(name: str, options: dict | None = None) -> Config:
    return load_config(path_of(name), options)
